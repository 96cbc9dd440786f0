"""A guard: a few words of code that keep something from happening, and the test that misses them."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Edit:
    """Another text in a file, for one that stands there exactly once."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        """Raises `ValueError` where the text is not found, or more than once."""
        path = folder / self.file
        text = path.read_text()
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has {times} times, instead of once: {self.old!r}")
        path.write_text(text.replace(self.old, self.new))


class Guard:
    """What it is called, what it keeps from happening, the test that fails without it, how to take it out."""

    def __init__(self, name: str, prevents: str, test: str, *edits: Edit) -> None:
        self.name = name
        self.prevents = prevents
        self.test = test
        self.edits = edits

    @property
    def row(self) -> str:
        """As the table of all guards shows it."""
        file, _, test = self.test.partition("::")
        return f"| {self.name} | {self.prevents} | [`{test.partition('[')[0]}`](../{file}) |"
