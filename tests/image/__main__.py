"""The image without a container engine: each step of the Dockerfile in a clean root, then each command.

`python -m tests.image` needs root, debootstrap, and Debian's and Python's registries. Debian 13 and its own
Python stand for `python:3.13-slim`, which is the same Debian with another build of that Python.
"""

import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.image.build import Image, build
from tests.image.run import Engine

COMMANDS = {
    ("sandbox", "--port", "8500"): "listening on",
    ("worker",): "worker.started",
    (): "api listening on",
}


def main() -> None:
    with TemporaryDirectory(prefix="image-") as folder:
        image = build(Path(__file__).parents[2], Path(folder))
        check_contents(image)
        with Engine(image, Path(folder)) as engine:
            check_commands(engine)
    print("The image is built, and each of its commands starts, is healthy, and ends when told to.")


def check_contents(image: Image) -> None:
    bill = (image.root / "opt/asana-exports/sbom.cdx.json").read_text()
    assert '"asana-exports"' in bill
    assert '"fastapi"' in bill
    assert image.labels["org.opencontainers.image.revision"] == "unknown"
    tools = list(image.root.glob("opt/asana-exports/lib/python3*/site-packages/cyclonedx*"))
    assert not tools, f"tools that build are in it: {tools}"


def check_commands(engine: Engine) -> None:
    assert engine.said("sh", "-c", "touch /opt/x", entrypoint=False)[0] != 0, "its root can be written to"
    assert engine.said("sh", "-c", "id -u", entrypoint=False) == (0, "10001\n")
    code, output = engine.said("migrate")
    assert code == 0, output
    code, output = engine.said("keys", "create", "first", "--scope", "admin")
    assert (code, "aex_" in output) == (0, True), output
    # One after the other: the embedded server is for one container, which sees no processes of others.
    for command, says in COMMANDS.items():
        container = engine.start(*command)
        container.until(says)
        assert (engine.healthy() == 0) == (not command), "the health check is for the API"
        assert container.stopped() == 0, container.output()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{shlex.join(map(str, error.cmd))} ended with {error.returncode}")
