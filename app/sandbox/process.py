"""The stand-in as a process of its own, for tests that want real sockets."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app.sandbox.control import SandboxControl


@contextmanager
def running_sandbox(*options: str) -> Iterator[SandboxControl]:
    """Run `python -m app.sandbox` with these options on a free port, and end it with the block."""
    command = [sys.executable, "-m", "app.sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError("the sandbox did not start; it has said why on stderr")
            with SandboxControl(line.split()[-1]) as control:
                yield control
        finally:
            process.terminate()
