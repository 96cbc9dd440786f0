"""One stand-in as a real process for all tests, with a stopped clock, made new for each."""

from collections.abc import Iterator

import pytest

from app.sandbox import SERVICE_TOKEN, USER_TOKEN
from app.sandbox.control import SandboxControl
from app.sandbox.process import running_sandbox

from .calls import AsanaCaller
from .official import OfficialClient


@pytest.fixture(scope="session")
def process() -> Iterator[SandboxControl]:
    with running_sandbox("--time-scale", "0", "--starts-at", "2026-06-01") as control:
        yield control


@pytest.fixture
def sandbox(process: SandboxControl) -> SandboxControl:
    process.reset()
    return process


@pytest.fixture
def service(sandbox: SandboxControl) -> Iterator[AsanaCaller]:
    caller = AsanaCaller(sandbox.api_url, SERVICE_TOKEN)
    with caller.http:
        yield caller


@pytest.fixture
def user(sandbox: SandboxControl) -> Iterator[AsanaCaller]:
    caller = AsanaCaller(sandbox.api_url, USER_TOKEN)
    with caller.http:
        yield caller


@pytest.fixture
def sdk(sandbox: SandboxControl) -> OfficialClient:
    return OfficialClient(sandbox.api_url, SERVICE_TOKEN)
