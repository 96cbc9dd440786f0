"""A PostgreSQL that tests may trouble: stopped, killed, frozen, cloned, and reached over lines that fail."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.conninfo import conninfo
from app.database.embedded import SUPERUSER, EmbeddedPostgres
from app.database.migrate import migrate
from app.database.session import Database, open_database
from app.settings import Settings


@asynccontextmanager
async def patient_database(settings: Settings) -> AsyncIterator[Database]:
    """Whose transactions may stand still for minutes: a busy machine does that to tests."""
    async with open_database(settings.model_copy(update={"lease_seconds": 600.0})) as database:
        yield database


async def migrated_template(server_url: str) -> str:
    """The name of a new, migrated database, to be copied."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(conninfo(server_url), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    async with patient_database(Settings(database_url=_with_name(server_url, name))) as database:
        await migrate(database.engine)
    return name


def trust_the_kernel(server: EmbeddedPostgres) -> None:
    """Do not wait for the disk: tests kill processes, never the machine, and each makes a database."""
    with psycopg.connect(conninfo(server.url), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")


@contextmanager
def copied_database(server_url: str, template: str) -> Iterator[str]:
    """The URL of a new database of the server."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(conninfo(server_url), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield _with_name(server_url, name)
    with psycopg.connect(conninfo(server_url), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_name(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def cut_off(settings: Settings, postgres_url: str) -> Iterator[None]:
    """The database ends all its connections and takes no new ones, as when PostgreSQL is stopped."""
    name = make_url(settings.database_url or "").database or ""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(conninfo(postgres_url), autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


class OwnPostgres(EmbeddedPostgres):
    """A server of real processes, with what may befall it. What it holds outlives all of that."""

    def start(self) -> None:
        self._let_go()
        super().start()
        trust_the_kernel(self)

    def _let_go(self) -> None:
        """Of the file by which processes share a server: this one has no other users than the test."""
        if self._users:
            self._users.close()
            self._users = None

    @property
    def socket(self) -> Path:
        return self.socket_folder / ".s.PGSQL.5432"

    @property
    def _lock_of_socket(self) -> Path:
        return self.socket.with_name(f"{self.socket.name}.lock")

    @property
    def postmaster(self) -> psutil.Process | None:
        """None when it does not run."""
        try:
            number = int((self.cluster / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(number)
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if _lives(process) else None

    def processes(self) -> list[psutil.Process]:
        """The postmaster first."""
        first = self.postmaster
        return [first, *first.children(recursive=True)] if first else []

    def kill(self, *, whole: bool = False) -> None:
        """SIGKILL of the postmaster, which its children do not outlive; or of all, as when the power fails.

        The next start has to recover from the write-ahead log.
        """
        processes = self.processes()
        for process in processes if whole else processes[:1]:
            _send(process, signal.SIGKILL)
        _until_gone(processes)
        # Where nobody collects orphans, the number in these files still seems to be that of a process.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        self._lock_of_socket.unlink(missing_ok=True)
        self._let_go()

    def shut_down(self) -> None:
        """An orderly stop, which ends all connections."""
        processes = self.processes()
        self._run("pg_ctl", "stop", "--pgdata", self.cluster, "--mode", "fast", "--wait")
        _until_gone(processes)

    @contextmanager
    def paused(self, *processes: psutil.Process) -> Iterator[None]:
        """SIGSTOP, by default of all: the kernel takes what is sent to them, and nobody answers."""
        stopped = processes or self.processes()
        for process in stopped:
            _send(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(stopped):
                _send(process, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stopped in order, and started again."""
        self.shut_down()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def configured(self, **values: str) -> Iterator[None]:
        """With other settings, of those that a reload is enough for."""
        with self.admin() as admin:
            for name, value in values.items():
                admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.reload()
        try:
            yield
        finally:
            self.as_made()

    def as_made(self) -> None:
        """Running, and configured as at first, whatever a test has left."""
        if not self.postmaster:
            self.start()
        with self.admin() as admin:
            admin.execute("ALTER SYSTEM RESET ALL")
        trust_the_kernel(self)

    def listeners(self) -> list[psutil.Process]:
        """The backends of those who wait for notifications of ours; chores have others."""
        rows = self.ask(
            "SELECT pid FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN %' AND application_name <> 'asana-exports chores'"
        )
        return [psutil.Process(pid) for (pid,) in rows]

    def reload(self) -> None:
        self._run("pg_ctl", "reload", "--pgdata", self.cluster)

    def ask(self, question: LiteralString) -> list[tuple[Any, ...]]:
        with self.admin() as admin:
            return admin.execute(question).fetchall()

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(conninfo(self.url), autocommit=True)

    def clone(self, folder: Path, name: str) -> "OwnPostgres":
        """A standby that follows this server, streaming; not started yet."""
        standby = OwnPostgres(folder)
        standby._own(standby.cluster)
        self._run(
            "pg_basebackup", "--pgdata", standby.cluster, "--checkpoint", "fast", "--wal-method", "stream",
            "--write-recovery-conf", "--no-sync",
            "--dbname", f"host={self.socket_folder} user={SUPERUSER} application_name={name}",
        )  # fmt: skip
        standby._lock_of_socket.unlink(missing_ok=True)
        return standby

    def dump(self, database: str, to: Path) -> None:
        """Back one database up."""
        where = f"host={self.socket_folder} user={SUPERUSER} dbname={database}"
        self._run("pg_dump", "--format", "custom", "--file", to, "--dbname", where)

    def restore(self, database: str, backup: Path) -> None:
        """Put it back to what it was when it was backed up."""
        name = sql.Identifier(database)
        with self.admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        where = f"host={self.socket_folder} user={SUPERUSER} dbname={database}"
        self._run("pg_restore", "--exit-on-error", "--dbname", where, backup)

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", "--pgdata", self.cluster, "--wait")


@contextmanager
def a_folder() -> Iterator[Path]:
    """One that PostgreSQL's account can enter, should we be root; pytest's own it could not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@contextmanager
def own_server() -> Iterator[OwnPostgres]:
    """A new server, which does not outlive the block."""
    with a_folder() as folder:
        server = OwnPostgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill(whole=True)


@dataclass
class Line:
    """The way to a server over TCP, which a test makes slow or dead."""

    port: int
    delay: float = 0.0
    pairs: set[asyncio.Task[None]] = field(default_factory=set)
    dead: set[asyncio.Task[None]] = field(default_factory=set)

    def die(self) -> None:
        """From now on nothing passes over the connections there are, and neither end is told."""
        self.dead |= self.pairs

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                await asyncio.sleep(self.delay)
                if task not in self.dead:
                    writer.write(piece)
                    await writer.drain()
        if task not in self.dead:
            writer.close()


@asynccontextmanager
async def line_to(server: OwnPostgres) -> AsyncIterator[Line]:
    """A port of this machine that leads to the server."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            connections.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError), closing(writer):
            there, back = await asyncio.open_unix_connection(server.socket)
            with closing(back):
                async with asyncio.TaskGroup() as both_ways:
                    line.pairs.add(both_ways.create_task(line.forward(reader, back)))
                    line.pairs.add(both_ways.create_task(line.forward(there, writer)))

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    line = Line(listener.sockets[0].getsockname()[1])
    async with listener:
        try:
            yield line
        finally:
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections)


@contextmanager
def closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _until_gone(processes: list[psutil.Process]) -> None:
    until = time.monotonic() + 20
    while any(map(_lives, processes)):
        if time.monotonic() > until:
            raise AssertionError(f"PostgreSQL's processes do not end: {processes}")
        time.sleep(0.01)
