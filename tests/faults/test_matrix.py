"""Each fault that the documentation tells of has a test, and the other way round."""

import re
from pathlib import Path

import tests

FAULTS = Path(__file__).parent
RELIABILITY = Path(tests.__file__).parents[1] / "docs" / "reliability.md"


def test_every_fault_of_the_documentation_is_tested() -> None:
    told = set(re.findall(r"^\| (\d+) \|", RELIABILITY.read_text(), re.MULTILINE))
    sources = "".join(path.read_text() for path in FAULTS.glob("test_*.py"))
    tested = {str(int(number)) for number in re.findall(r"^async def test_(\d\d)_", sources, re.MULTILINE)}
    assert told == tested
