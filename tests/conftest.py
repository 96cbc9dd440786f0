"""One real PostgreSQL for the whole run, and a fresh, migrated database for each test that wants one."""

import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault, open_vault
from app.database.embedded import EmbeddedPostgres
from app.database.session import Database
from app.sandbox.control import SandboxControl
from app.settings import Settings
from tests.leaks import leaks
from tests.postgres import a_folder, copied_database, migrated_template, patient_database, trust_the_kernel
from tests.processes import Process
from tests.stores import S3, s3_server

# A minute of the sandbox's time is a second of ours.
SANDBOX_SCALE = 60.0

# Where the tests run in the background of a shell, processes would inherit that Ctrl-C does nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The default would show the values of variables with each traceback, slowly.
structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
)

# How fast an example is found says something of the machine, nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that shows a secret in what it logs, prints or fails with has failed."""
    report = yield
    if found := leaks(f"{report.caplog}{report.capstdout}{report.capstderr}{report.longreprtext}"):
        report.outcome, report.longrepr = "failed", f"{report.nodeid} has shown {len(found)} secrets"
        report.sections.clear()
    return report


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with a_folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        trust_the_kernel(server)
        yield server.url
        server.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """For a service with a PostgreSQL of its own."""
    with a_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
async def template(postgres_url: str) -> str:
    """The name of a migrated database, to be copied."""
    return await migrated_template(postgres_url)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store_url() -> str:
    """Where the service keeps its files; the default, where a module says nothing else."""
    return ""


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    with copied_database(postgres_url, template) as url:
        yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, data_dir=tmp_path, secret_keys=(a_secret_key(),))


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with patient_database(settings) as database:
        yield database


@pytest.fixture
def sessions(database: Database) -> async_sessionmaker[AsyncSession]:
    return database.sessions


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return open_vault(settings)


@pytest.fixture(scope="session")
async def fast_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxControl]:
    """An Asana whose jobs take a third of a second to a second."""
    options = ("--port", "0", "--time-scale", str(SANDBOX_SCALE), "--run-seconds", "20", "60")
    log = tmp_path_factory.mktemp("sandbox") / "sandbox.log"
    with Process(log, "sandbox", *options) as process, SandboxControl(await process.address()) as control:
        yield control


@pytest.fixture
def sandbox(fast_sandbox: SandboxControl) -> SandboxControl:
    """The same Asana, as if just started."""
    fast_sandbox.reset()
    return fast_sandbox


def a_secret_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())
