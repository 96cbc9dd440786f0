"""The package alone: what its wheel has in it, and that it needs nothing it does not name."""

import sys
from importlib.metadata import distribution
from pathlib import Path
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

from packaging.requirements import Requirement

from tests.processes import said

CLIENT = Path(__file__).parents[2] / "client"
# Everything public, and what it says where an extra is missing.
USE = """
import sys
import asana_exports_client as exports
from asana_exports_client import _tables
assert "site-packages" in exports.__file__, exports.__file__
assert all(hasattr(exports, name) for name in exports.__all__)
exports.Client("http://127.0.0.1:1", "a key").close()
try:
    _tables.polars()
except exports.MissingExtra as error:
    print(error)
assert "app" not in sys.modules
try:
    import app
except ImportError:
    print("alone", exports.__version__)
"""


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The distributions that one needs here, and those that these need."""
    found = set()
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        found |= {requirement.name} | needed(requirement.name, frozenset(requirement.extras))
    return found


async def test_the_wheel_works_alone(tmp_path: Path) -> None:
    # A copy, for a build leaves things beside what it builds, and finds those of the last one.
    source = copytree(CLIENT, tmp_path / "client", ignore=ignore_patterns("build", "*.egg-info"))
    code, output = await said(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", tmp_path, source, cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    (wheel,) = tmp_path.glob("*.whl")  # noqa: ASYNC240 - nobody is kept waiting
    names = ZipFile(wheel).namelist()
    assert {"asana_exports_client/py.typed", "asana_exports_client/_sync/client.py"} <= set(names)
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == {
        "asana_exports_client"
    }

    # No more of what is installed here than the wheel names, by links: there may be no index in reach.
    code, output = await said(sys.executable, "-m", "venv", "--without-pip", tmp_path / "alone", cwd=tmp_path)
    assert code == 0, output
    packages = tmp_path / "alone" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for name in needed("asana-exports-client", frozenset({"cli"})):
        for file in distribution(name).files or ():
            if ".." not in (top := file.parts[0]) and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    code, output = await said(
        sys.executable, "-m", "pip", "--python", tmp_path / "alone" / "bin" / "python", "install", "--quiet",
        "--no-deps", "--no-index", wheel, cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, output
    code, output = await said(tmp_path / "alone" / "bin" / "python", "-I", "-c", USE, cwd=tmp_path)
    assert code == 0, output
    assert output == ("to_polars() needs more: pip install 'asana-exports-client[polars]'\nalone 0.1.0\n")
    code, output = await said(tmp_path / "alone" / "bin" / "asana-exports", "--help", cwd=tmp_path)
    assert (code, "watch" in output, "migrate" in output) == (0, True, False), output
