"""Processes in an image: their root cannot be written to, their user is an ordinary one."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.image.build import Image

NETWORK = "image-check"
WITHIN = 120.0
# The root, its volume, the folder that this is here, the user; then the command.
ENTER = """
root=$1 volume=$2 data=$3 user=$4; shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$data" "$root$volume"
mount -o remount,ro,bind "$root"
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all "$@"
"""


class Engine:
    """Runs commands of an image, which share its volume and a network."""

    def __init__(self, image: Image, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self._data = folder / "data"
        self._running: list[Container] = []

    def __enter__(self) -> Self:
        # As an engine makes a volume: like the folder that the image has there.
        subprocess.run(["cp", "--archive", f"{self._image.root}{self._image.volume}", self._data], check=True)
        self._folder.chmod(0o755)
        subprocess.run(["ip", "netns", "add", NETWORK], check=True)
        subprocess.run(["ip", "-n", NETWORK, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in self._running:
            container.kill()
        subprocess.run(["ip", "netns", "delete", NETWORK], check=True)

    def start(self, *command: str, entrypoint: bool = True) -> "Container":
        image = self._image
        env = [f"{name}={value}" for name, value in image.env.items()]
        log = self._folder / f"{len(self._running)}.log"
        called = [*(image.entrypoint if entrypoint else []), *(command or image.command)]
        inside = ["env", "-i", *env, "sh", "-c", f'cd "{image.workdir}" && exec "$@"', "sh", *called]
        container = Container(
            [
                "ip", "netns", "exec", NETWORK, "unshare", "--mount", "--pid", "--fork", "--kill-child",
                "sh", "-ec", ENTER, "enter", str(image.root), image.volume,
                str(self._data), image.user, *inside,
            ],
            log,
            command,
        )  # fmt: skip
        self._running.append(container)
        return container

    def said(self, *command: str, entrypoint: bool = True) -> tuple[int, str]:
        """How a command ends, and what it says."""
        container = self.start(*command, entrypoint=entrypoint)
        return container.ended(), container.output()

    def healthy(self) -> int:
        """What the health check of the image ends with."""
        return self.said(*self._image.health, entrypoint=False)[0]


class Container:
    """A running command."""

    def __init__(self, call: list[str], log: Path, command: tuple[str, ...]) -> None:
        self.command = command
        self._log = log
        with log.open("wb") as output:
            self._outside = subprocess.Popen(call, stdout=output, stderr=subprocess.STDOUT)

    def output(self) -> str:
        return self._log.read_text()

    def until(self, words: str) -> None:
        """Wait until it has said that."""
        end = time.monotonic() + WITHIN
        while words not in self.output():
            assert self._outside.poll() is None, f"{self.command} has ended:\n{self.output()}"
            assert time.monotonic() < end, f"{self.command} has not said {words!r}:\n{self.output()}"
            time.sleep(0.1)

    def stopped(self) -> int:
        """The exit code, after its first process was told to end."""
        (first,) = psutil.Process(self._outside.pid).children()
        first.terminate()
        return self.ended()

    def ended(self) -> int:
        return self._outside.wait(WITHIN)

    def kill(self) -> None:
        self._outside.kill()
        self._outside.wait()
