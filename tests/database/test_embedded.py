"""The embedded server: shared, kept, stopped by the last, adopted after a crash."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString

import psutil
import psycopg
import pytest

from app.conninfo import conninfo
from app.database.embedded import EmbeddedPostgres, EmbeddedPostgresError

# Uses the server until its standard input closes, or until it is killed.
USER = """
import sys
from pathlib import Path
from app.database.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
sys.stdout.write("started\\n")
sys.stdout.flush()
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: run as root, PostgreSQL is another account, which could not enter it.
    with TemporaryDirectory(prefix="embedded it's ") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def user(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", USER, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def started(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    assert "started\n" in iter(process.stdout.readline, "")


def postmaster(folder: Path) -> int:
    return int((EmbeddedPostgres(folder).cluster / "postmaster.pid").read_text().splitlines()[0])


def runs(pid: int) -> bool:
    """Where nobody collects orphans, an ended one stays as a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_ended(pid: int) -> bool:
    """It takes its pid file away, by which it is called stopped, a moment before it ends."""
    until = time.monotonic() + 10
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not runs(pid)


def ask(server: EmbeddedPostgres, statement: LiteralString) -> object:
    with psycopg.connect(conninfo(server.url), autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall()[0][0] if done.description else None


def test_data_is_kept_from_one_start_to_the_next_and_nothing_runs_between(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    pid = postmaster(folder)
    ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
    server.stop()
    assert has_ended(pid)
    again = EmbeddedPostgres(folder)
    again.start()
    assert ask(again, "SELECT number FROM kept") == 7
    again.stop()


def test_processes_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    first = EmbeddedPostgres(folder)
    first.start()
    pid = postmaster(folder)
    with user(folder) as other:
        started(other)
        assert postmaster(folder) == pid
        first.stop()
        assert runs(pid)
        other.communicate()
    assert other.returncode == 0
    assert has_ended(pid)


def test_processes_may_race_to_start_it(folder: Path) -> None:
    processes = [user(folder) for _ in range(4)]
    for process in processes:
        started(process)
    pid = postmaster(folder)
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    assert has_ended(pid)


def test_a_server_whose_users_were_killed_is_adopted_and_then_stopped(folder: Path) -> None:
    with user(folder) as killed:
        started(killed)
        pid = postmaster(folder)
        killed.kill()
        killed.communicate()
    assert runs(pid)
    server = EmbeddedPostgres(folder)
    server.start()
    assert postmaster(folder) == pid
    assert ask(server, "SELECT 1") == 1
    server.stop()
    assert has_ended(pid)


def test_it_listens_on_no_network_port_and_lets_no_other_account_in(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        assert ask(server, "SHOW listen_addresses") == ""
        assert server.socket_folder.stat().st_mode & 0o077 == 0
    finally:
        server.stop()


def test_a_path_too_long_for_a_socket_is_no_obstacle(folder: Path) -> None:
    deep = folder / ("x" * 60) / ("y" * 60)
    server = EmbeddedPostgres(deep)
    server.start()
    try:
        assert len(str(server.socket_folder)) < 80
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_what_is_wrong_is_said_in_the_servers_own_words(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    (server.cluster / "postgresql.conf").write_text("nonsense = on\n")
    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        EmbeddedPostgres(folder).start()
