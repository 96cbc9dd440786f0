"""Every setting of the service, in one class."""

import re
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlparse

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.conninfo import conninfo

ENV_PREFIX = "ASANA_EXPORTS_"
OBJECT_STORES = {"s3", "gs", "az"}


class LaneScope(StrEnum):
    """What shares one slot at Asana."""

    WORKSPACE = "workspace"
    KIND = "kind"


class Delivery(StrEnum):
    """Who sends a file: this service, or the store, at an address that is good for minutes."""

    PROXY = "proxy"
    REDIRECT = "redirect"


class Settings(BaseSettings):
    """Read from the environment, each name prefixed by `ASANA_EXPORTS_`, or from a file `.env`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        validate_default=True,
        # A wrong value may be a secret at the wrong place.
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(
        Path("data"),
        description="Folder for what this machine keeps: the embedded database, the archived files, the key "
        "that encrypts tokens.",
    )
    database_url: str | None = Field(
        None,
        repr=False,
        description="PostgreSQL 15 to 18, as `postgresql://user:password@host/name`. "
        "With a standby: `…@one:5432,two:5432/name?target_session_attrs=read-write`. "
        "Empty: an embedded server in the data folder.",
    )
    listen_database_url: str | None = Field(
        None,
        repr=False,
        description="A direct connection for LISTEN when `DATABASE_URL` goes through PgBouncer in "
        "transaction mode. Then also set `idle_in_transaction_session_timeout` (to `LEASE_SECONDS`) and "
        "`timezone` (to UTC) for the role, which a pooler does not pass on.",
    )
    database_pool_size: PositiveInt = Field(10, description="Connections each process may hold.")
    database_timeout_seconds: PositiveFloat = Field(
        15,
        description="Longest time for one statement, locks included; then PostgreSQL is taken for dead and "
        "the connection given up. Best longer than `LEASE_SECONDS`.",
    )
    store_url: str = Field(
        "",
        description="Where archived files are kept: `file:///folder`, `s3://bucket/prefix`, "
        "`gs://bucket/prefix` or `az://container/prefix`; all processes must reach it. "
        "Empty: `files` in the data folder.",
    )
    delivery: Delivery = Field(
        Delivery.PROXY,
        description="How callers get files: `proxy` sends them through this service, `redirect` sends "
        "callers to a signed address of the store, which they must be able to reach; a folder has none.",
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Fernet keys, comma separated, for Asana tokens: the first encrypts, all decrypt. "
        "Empty with the embedded database: one is made in the data folder.",
    )
    secret_keys_file: Path | None = Field(
        None,
        description="A file with these keys instead, one a line. It is read again when needed, so that keys "
        "can be changed while processes run.",
    )

    host: str = Field(
        "127.0.0.1", description="Address on which the API listens, and workers for Prometheus."
    )
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens.")
    public_url: str | None = Field(
        None,
        description="Address by which callers reach the API, as `https://exports.example`, for the download "
        "URLs of jobs. Empty: as each request has it.",
    )
    drain_seconds: NonNegativeFloat = Field(
        0,
        description="How long an API process that is told to stop still takes requests, while `/readyz` says "
        "503 and each answer closes its connection: longer than the proxy takes to notice.",
    )
    requests_per_minute: PositiveInt = Field(
        6000, description="Requests that one client may send to one API process in a minute."
    )
    body_seconds: PositiveFloat = Field(30, description="Longest time for a request's body to arrive.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which a worker tells Prometheus what it has counted, without asking for a key: "
        "numbers, no names. Empty: it does not.",
    )
    log_format: Literal["console", "json"] = Field("console", description="Readable or JSON lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    asana_url: str = Field("https://app.asana.com/api/1.0", description="Base of Asana's API.")
    asana_timeout_seconds: PositiveFloat = Field(30, description="Longest silence of Asana within one call.")
    asana_calls_per_minute: PositiveInt = Field(
        1200, description="Calls a process makes with one token in a minute; Asana's paid plans allow 1,500."
    )
    download_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*.amazonaws.com", "*.asana.com"),
        description="Hosts, comma separated, from which files may be fetched; `*.` stands for any subdomain.",
    )
    download_allow_http: bool = Field(
        False, description="Fetch files over plain http too. Only for a sandbox on this machine."
    )

    lane_scope: LaneScope = Field(
        LaneScope.WORKSPACE,
        description="What shares one slot: `workspace`, or `kind` for a slot each for resource and graph "
        "exports. Asana states the limit for resource exports only.",
    )
    max_queued_per_lane: PositiveInt = Field(
        100_000, description="Exports that may wait in one lane; more are refused as `queue-full`."
    )
    lease_seconds: PositiveFloat = Field(12, description="A worker silent for so long has lost its lanes.")
    beat_seconds: PositiveFloat = Field(3, description="How often a worker renews its lease.")
    idle_poll_seconds: PositiveFloat = Field(
        2, description="How often a worker looks for work on its own, should a notification be lost."
    )
    max_lanes: PositiveInt = Field(10_000, description="Lanes one worker serves at the same time.")
    max_archives: PositiveInt = Field(4, description="Files one worker fetches at the same time.")
    scratch_dir: Path | None = Field(
        None,
        description="Folder for files while they are made into other formats; it has to hold an archive and "
        "what is made of it, unpacked. Empty: `scratch` in the data folder.",
    )
    conversion_memory_bytes: PositiveInt = Field(
        2**31,
        description="Most memory the process that makes other formats may use. It needs about 200 MB, and "
        "more where lines are very long.",
    )

    poll_min_seconds: PositiveFloat = Field(2, description="Shortest pause between two looks at one job.")
    poll_max_seconds: PositiveFloat = Field(60, description="Longest pause between two looks at one job.")
    probe_min_seconds: PositiveFloat = Field(
        30, description="First pause after Asana refused a start because the slot is taken; it doubles."
    )
    probe_max_seconds: PositiveFloat = Field(300, description="Longest pause between two such probes.")
    forbidden_after_seconds: PositiveFloat = Field(
        86_400,
        description="Refused for so long, an export fails as `upstream-forbidden` if Asana never took one of "
        "its kind by its credential.",
    )
    blocked_seconds: PositiveFloat = Field(
        900, description="A lane refused for so long is told to be blocked, by an event."
    )
    attention_seconds: PositiveFloat = Field(
        21_600, description="A lane refused for so long is listed as needing attention."
    )
    backoff_min_seconds: PositiveFloat = Field(
        5, description="First pause before a failed run is tried again or a failed call repeated; it doubles."
    )
    backoff_max_seconds: PositiveFloat = Field(300, description="Longest such pause.")
    max_attempts: PositiveInt = Field(3, description="Attempts at a run that Asana reports as failed.")
    run_limit_seconds: PositiveFloat = Field(
        86_400, description="A job still in progress after so long is given up."
    )
    url_wait_seconds: PositiveFloat = Field(
        3600, description="How long a succeeded job may lack its download URL."
    )
    credential_repair_seconds: PositiveFloat = Field(
        86_400, description="How long a run waits for its invalid token to be replaced."
    )
    fetch_tries: PositiveInt = Field(3, description="Times a damaged file is fetched before it is given up.")
    max_line_bytes: PositiveInt = Field(64 * 2**20, description="Longest line accepted in a file.")
    fetch_timeout_seconds: PositiveFloat = Field(60, description="Longest silence of a file's server.")
    max_uncompressed_bytes: PositiveInt = Field(
        2**40, description="Most bytes a file may unpack to; beyond it is refused as a bomb."
    )
    retention_days: PositiveInt = Field(
        90,
        description="Days until an archived file expires, which callers are told as `expires_at`, where "
        "neither client nor workspace has a wish of its own.",
    )
    expiring_notice_days: PositiveInt = Field(
        3, description="Days before its end that a file is told to be `expiring`, by an event."
    )
    idempotency_days: PositiveInt = Field(7, description="How long an Idempotency-Key is remembered.")
    event_retention_days: int = Field(
        90,
        # Webhooks are tried for more than three days.
        ge=7,
        description="Days until events are forgotten, those of an export together, counted from its end. "
        "Followers of events may be away for so long.",
    )

    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        ("public",),
        description="Where webhooks may be sent, comma separated: `public` for all public addresses, "
        "networks (`10.0.0.0/8`), and hosts whose addresses may be private (`hooks.example`, "
        "`*.corp.example`). Addresses of this machine only by a network.",
    )
    webhook_allow_http: bool = Field(
        False, description="Send webhooks over plain http too, where they may be sent at all."
    )
    webhook_ca_file: Path | None = Field(
        None,
        description="Certificates of authorities, in PEM, that receivers may have beside the public ones.",
    )
    webhook_timeout_seconds: PositiveFloat = Field(
        15, description="Longest time for one try of a webhook, the answer's body included."
    )
    webhook_days: PositiveInt = Field(
        30, description="How long deliveries of webhooks that have ended are listed."
    )

    @field_validator("secret_keys", "download_hosts", "webhook_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _keys_come_from_one_place(self) -> Self:
        if self.secret_keys and self.secret_keys_file:
            raise ValueError("set SECRET_KEYS or SECRET_KEYS_FILE, not both")
        return self

    @model_validator(mode="after")
    def _beats_before_the_lease_ends(self) -> Self:
        if self.beat_seconds > self.lease_seconds / 2:
            raise ValueError(
                "BEAT_SECONDS must be at most half of LEASE_SECONDS, so that one beat may be lost"
            )
        return self

    @field_validator("database_url", "listen_database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value:
            conninfo(value)
        return value or None

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        url = urlparse(value or "")
        if value and not (url.scheme in {"http", "https"} and url.netloc and not url.query + url.fragment):
            raise ValueError("must be as `https://exports.example`")
        return value.rstrip("/") if value else None

    @field_validator("webhook_allow")
    @classmethod
    def _are_targets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if "/" in entry:
                ip_network(entry)
            elif not re.fullmatch(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", entry) or entry[-1].isdigit():
                raise ValueError("must be `public`, networks as `10.0.0.0/8`, or hosts in small letters")
        return value

    @field_validator("store_url")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        url = urlparse(value)
        local = url.scheme == "file" and url.netloc in {"", "localhost"} and url.path
        if value and not local and not (url.scheme in OBJECT_STORES and url.netloc):
            raise ValueError(
                "must be `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or "
                "`az://container/prefix`"
            )
        return value

    @property
    def files_url(self) -> str:
        """Where archived files are kept."""
        return self.store_url or (self.data_dir.resolve() / "files").as_uri()

    @property
    def scratch(self) -> Path:
        """The folder of files that are being converted."""
        return self.scratch_dir or self.data_dir.resolve() / "scratch"

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)

    @property
    def expiring_notice(self) -> timedelta:
        return timedelta(days=self.expiring_notice_days)
