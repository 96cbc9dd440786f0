"""The steps of a Dockerfile, done one after the other in folders that are roots of their own."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from dockerfile_parse import DockerfileParser

BASE = "python:3.13-slim"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "python3,python3-venv,ca-certificates"
# How this machine reaches its registries; an engine has that from its host, too.
OF_THE_HOST = ("etc/resolv.conf", "etc/pip.conf", "etc/xdg/pip", "etc/ssl/certs/ca-certificates.crt")


@dataclass
class Image:
    """A stage, and in the end the image."""

    name: str
    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    given: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    volume: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        return self.root / str(Path(self.workdir, path)).lstrip("/")

    def meant(self, text: str) -> str:
        return Template(text).safe_substitute(self.given | self.env)

    def pairs(self, text: str) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in shlex.split(self.meant(text)))


def build(context: Path, folder: Path) -> Image:
    """Raises `CalledProcessError` where a step fails."""
    base = _base(folder)
    stages: list[Image] = []
    for step in DockerfileParser(str(context)).structure:
        name, value = step["instruction"], step["value"]
        if name == "COMMENT":
            continue
        print(f"{name} {value[:100]}", flush=True)
        if name == "FROM":
            stages.append(_begun(value, base, folder / f"stage-{len(stages)}"))
        else:
            _do(name, value, stages[-1], {stage.name: stage for stage in stages}, context)
    return stages[-1]


def _begun(value: str, base: Path, root: Path) -> Image:
    source, _, name = value.partition(" AS ")
    assert source == BASE, f"{source} is not {BASE}"
    subprocess.run(["cp", "--archive", base, root], check=True)
    return Image(name, root)


def _do(step: str, value: str, image: Image, stages: Mapping[str, Image], context: Path) -> None:
    match step:
        case "RUN":
            _run(image, value)
        case "COPY":
            _copy(image, value, context, stages)
        case "WORKDIR":
            image.workdir = str(Path(image.workdir, value))
            image.inside("").mkdir(parents=True, exist_ok=True)
        case "ARG" | "ENV" | "LABEL":
            {"ARG": image.given, "ENV": image.env, "LABEL": image.labels}[step].update(image.pairs(value))
        case _:
            _note(step, value, image)


def _note(step: str, value: str, image: Image) -> None:
    """What counts when it is run."""
    match step:
        case "USER":
            image.user = value
        case "VOLUME":
            image.volume = value
        case "HEALTHCHECK":
            image.health = json.loads(value.partition("CMD ")[2])
        case "ENTRYPOINT":
            image.entrypoint = json.loads(value)
        case "CMD":
            image.command = json.loads(value)
        case _:
            assert step == "EXPOSE", f"{step} is not understood here"


def _base(folder: Path) -> Path:
    root = folder / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", root, _mirror()],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for name in OF_THE_HOST:
        source, target = Path("/", name), root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    return root


def _mirror() -> str:
    """Where this machine has its own packages from."""
    output = subprocess.run(["apt-get", "indextargets"], check=True, capture_output=True, text=True).stdout
    return next(line.split()[1] for line in output.splitlines() if line.startswith(("Site:", "Repo-URI:")))


def _copy(image: Image, value: str, context: Path, stages: Mapping[str, Image]) -> None:
    *sources, target = value.split()
    origin = context
    ignored: Callable[..., set[str]] | None = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    if sources[0].startswith("--from="):
        origin, ignored = stages[sources.pop(0).removeprefix("--from=")].root, None
    into = image.inside(target)
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            place = into / path.name if target.endswith("/") else into
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def _run(image: Image, value: str) -> None:
    host = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    env = [f"{name}={value}" for name, value in (host | image.given | image.env).items()]
    subprocess.run(
        [
            "unshare", "--mount", "--pid", "--fork", f"--mount-proc={image.root / 'proc'}",
            "chroot", image.root, "env", "-i", *env, "sh", "-ec", f'cd "{image.workdir}"\n{value}',
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
