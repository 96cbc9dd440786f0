"""Stores that tests write to and look into: a folder, and a real server of S3."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname
from uuid import uuid4

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.settings import Settings

PROGRAM = Path(sys.executable).parent / "weed"
ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE12345", "a-secret-of-the-tests"
ENDPOINTS = "master", "volume", "filer", "s3"


def folder_of(settings: Settings) -> Path:
    """Where the files of a local store lie."""
    return Path(url2pathname(urlparse(settings.files_url).path))


@dataclass(frozen=True)
class S3:
    """A server of S3 (SeaweedFS), and how the service's processes find it."""

    endpoint: str

    def env(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def be_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """To this process and those it starts."""
        for name, value in self.env().items():
            monkeypatch.setenv(name, value)

    def place(self) -> str:
        """The URL of an empty place in the bucket."""
        return f"s3://files/{uuid4().hex}"

    def until_it_stores(self) -> None:
        """The first file makes the bucket. Raises what is said should that not do within half a minute."""
        store = S3Store(
            "files",
            endpoint=self.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        last = time.monotonic() + 30
        while True:
            try:
                obstore.put(store, "first", b"")
            except BaseError:
                if time.monotonic() > last:
                    raise
            else:
                return


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """One that listens on this machine alone, and ends with the block."""
    if not PROGRAM.exists():
        pytest.skip("there is no SeaweedFS for this machine")
    identity = {
        "name": "tests",
        "actions": ["Admin"],
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = _free_ports([name + grpc for name in ENDPOINTS for grpc in (".port", ".port.grpc")])
    command: list[str | Path] = [
        *(PROGRAM, "server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-dir={folder}", f"-s3.config={folder}/s3.json", "-volume.max=20", "-master.volumeSizeLimitMB=64"),
        *("-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            s3 = S3(f"http://127.0.0.1:{ports['s3.port']}")
            s3.until_it_stores()
            yield s3
        finally:
            server.kill()


def _free_ports(names: list[str]) -> dict[str, int]:
    with ExitStack() as held:
        sockets = {name: held.enter_context(socket.socket()) for name in names}
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in sockets.items()}
