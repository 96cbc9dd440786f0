"""What docs/from-the-shell.md shows can be typed, and its exit codes are all of them."""

import re
from pathlib import Path

from asana_exports_client.cli.exits import Exit
from tests.processes import BIN
from tests.test_pages import ROOT, part, steps_in, taken

PAGE = (ROOT / "docs" / "from-the-shell.md").read_text()


async def test_the_page_can_be_followed_as_written(folder: Path) -> None:
    at_home = f"export PATH={BIN}:$PATH XDG_CONFIG_HOME=$PWD/config NO_PROXY=127.0.0.1"
    said = await taken([at_home, *steps_in(part("shell", PAGE))], folder)
    for words in (
        "key\taccepted\n",
        "\ntasks.jsonl.gz\n",
        "\ngraph.jsonl.gz\n",
        '"resource_type":"project"',
        "export.succeeded",
        " 03:00:00+0",
        "The queue of 1001 is open",
    ):
        assert words in said, said
    assert re.search(r"^exp_\w+\.task\.parquet$", said, re.MULTILINE)
    assert re.search(r"^aex_\w+", said, re.MULTILINE)
    assert (folder / "tasks.jsonl.gz").stat().st_size > 0


def test_the_page_has_every_exit_code() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [*Exit]
