"""Takes each guard out of a copy of the code, and sees a test fail there.

`python -m tests.mutation --at-once 2`, or with the name of one guard.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutation.guard import ROOT, Guard
from tests.mutation.guards import GUARDS
from tests.mutation.page import PAGE, page
from tests.processes import COMMAND

PASSED, FAILED = 0, 1
# Only the plugins that are needed: others take longer to load than most tests take.
PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "xdist.plugin", "-p", "no:cacheprovider")
PYTEST = (sys.executable, "-m", "pytest", *PLUGINS, "--tb=short", "-rf")
LONGEST_SECONDS = 300
MARK = "this is the copy"


class Wrong(Exception):
    """It cannot be said whether a guard is missed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="of one guard; without it, all are taken out")
    parser.add_argument("--at-once", type=int, default=2, help="how many are tried at the same time")
    parser.add_argument("--write", action="store_true", help="write docs/guards.md, and try nothing")
    asked = parser.parse_args()
    if asked.write:
        PAGE.write_text(page())
        return 0
    guards = [guard for guard in GUARDS if asked.name in {None, guard.name}]
    if not guards:
        print(f"There is no guard called {asked.name!r}.")
        return 2
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        whole = copied(Path(folder) / "whole")
        check_that_copies_run(whole, Path(folder) / "marked")
        tests = sorted({guard.test for guard in guards})
        code, said, seconds = tried(
            whole, tests, "-n", str(asked.at_once), longest=len(tests) * LONGEST_SECONDS
        )
        if code != PASSED:
            print(f"{said}\nWith all guards in place these tests have to pass (exit code {code}).")
            return 2
        print(f"With all guards in place {len(tests)} tests pass ({seconds:.0f} s).", flush=True)
        with ThreadPoolExecutor(asked.at_once) as places:
            missed = list(places.map(lambda guard: is_missed(guard, whole), guards))
    print(f"{sum(missed)} of {len(guards)} guards are missed by a test ({time.monotonic() - began:.0f} s).")
    if PAGE.read_text() != page():
        print(f"{PAGE.relative_to(ROOT)} does not have these guards; --write writes it anew.")
        return 1
    return 0 if all(missed) else 1


def copied(folder: Path) -> Path:
    """The files of the working copy that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return folder


def check_that_copies_run(whole: Path, folder: Path) -> None:
    """Tests and the command they start have to take their code from the copy, though another is installed."""
    shutil.copytree(whole, folder)
    (folder / "app" / "__init__.py").write_text(f"raise ImportError({MARK!r})\n")
    for command in ((*PYTEST, "tests/mutation"), (str(COMMAND), "--help")):
        ran = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)
        if MARK not in ran.stdout + ran.stderr:
            raise Wrong(f"{command} did not run the copy's code:\n{ran.stdout}{ran.stderr}")
    shutil.rmtree(folder)


def is_missed(guard: Guard, whole: Path) -> bool:
    """Whether the guard's test fails without it; tells so."""
    folder = whole.with_name(f"without-{GUARDS.index(guard)}")
    # With what Python has compiled by now.
    shutil.copytree(whole, folder)
    try:
        for edit in guard.edits:
            edit.apply(folder)
        code, said, seconds = tried(folder, [guard.test], "-x")
    finally:
        shutil.rmtree(folder)
    missed = code == FAILED and f"FAILED {guard.test}" in said
    print(
        f"{'missed' if missed else 'NOT MISSED':10} {seconds:4.0f} s  {guard.name}: {_reason(said)}",
        flush=True,
    )
    if code not in {PASSED, FAILED} or (code == FAILED and not missed):
        print(said, flush=True)
    return missed


def tried(
    folder: Path, tests: Sequence[str], *options: str, longest: int = LONGEST_SECONDS
) -> tuple[int, str, float]:
    """The exit code of pytest there, what it said, and after how long."""
    began = time.monotonic()
    running = subprocess.Popen(
        [*PYTEST, *options, *tests],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = running.communicate(timeout=longest)
    except subprocess.TimeoutExpired:
        # As by Ctrl-C: it takes along the processes it has started.
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate()
    return running.returncode, said, time.monotonic() - began


def environment(folder: Path) -> dict[str, str]:
    """One in which the folder's code goes before what is installed, for the processes of tests too."""
    only = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "300"}
    path = os.pathsep.join([str(folder), str(folder / "client" / "src")])
    return {**os.environ, "PYTHONPATH": path, **only}


def _reason(said: str) -> str:
    """Why the test has failed, in a line."""
    lines = said.splitlines()
    wrong = (line.removeprefix("E ").strip() for line in lines if line.startswith(("E  ", "FAILED ")))
    return next(wrong, "it passes")[:120]


if __name__ == "__main__":
    sys.exit(main())
