"""The stand-in as a process."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn

from app.sandbox.app import create_sandbox
from app.sandbox.connection import LendingProtocol
from app.sandbox.settings import SandboxSettings


def serve(host: str = "127.0.0.1", port: int = 8500, settings: SandboxSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return. Port 0 takes a free one; the line on stdout tells which."""
    app = create_sandbox(settings)
    config = uvicorn.Config(
        app,
        http=LendingProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener, _signals_return():
        # Else every answer in two pieces waits 40 ms for the acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The socket listens already, so whoever reads the line may connect at once.
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"sandbox listening on http://{shown}:{listener.getsockname()[1]}/api/1.0\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _signals_return() -> Iterator[None]:
    """Make the signal that uvicorn raises again after its shutdown the end of `serve`, not of the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.suppress(_Stopped):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopped(BaseException):
    """The server has been asked to end."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
