"""What all values at one place of the lines have in common; nothing is judged by a sample."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import StrEnum

DEEPEST = 16
MOST_KEYS = 1000
EXACT_IN_A_DOUBLE = 2**53
INT64 = range(-(2**63), 2**63)
OBJECT, ARRAY, MAP = "object", "array", "map"
BOOLEAN, WHOLE, LONG, HUGE, FRACTION = "boolean", "whole", "long", "huge", "fraction"
TEXT, TIMESTAMP, DATE = "text", "timestamp", "date"

# RFC 3339 as Asana writes it. Finer than a microsecond would not survive.
INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Form(StrEnum):
    """What a column holds: `boolean`; `integer` of 64 bits; `number`, a double; `text`; `timestamp` in UTC;
    `date`; `struct` with fields; `list`; or `json`, text with a JSON value in it, for what fits nothing else.
    """

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIMESTAMP = "timestamp"
    DATE = "date"
    STRUCT = "struct"
    LIST = "list"
    JSON = "json"


FORMS: list[tuple[set[str], Form]] = [
    (set(), Form.TEXT),
    ({BOOLEAN}, Form.BOOLEAN),
    ({WHOLE, LONG}, Form.INTEGER),
    ({WHOLE, FRACTION}, Form.NUMBER),
    ({TIMESTAMP}, Form.TIMESTAMP),
    ({DATE}, Form.DATE),
    ({TEXT, TIMESTAMP, DATE}, Form.TEXT),
    ({OBJECT}, Form.STRUCT),
    ({ARRAY}, Form.LIST),
]


class Shape:
    """The kinds of values seen at one place, the fields of its objects and the items of its arrays."""

    __slots__ = ("_depth", "_read_moment", "_reads", "fields", "items", "kinds")

    def __init__(self, name: str = "", depth: int = 0) -> None:
        self.kinds: set[str] = set()
        self.fields: dict[str, Shape] = {}
        self.items: Shape | None = None
        self._depth = depth
        self._reads, self._read_moment = MOMENTS.get(name[-3:], (TEXT, _is_nothing))

    def see(self, value: object) -> None:
        """Take another value into account; null fits everywhere."""
        match value:
            case None:
                return
            case str():
                self.kinds.add(self._kind_of_text(value))
            case bool():
                self.kinds.add(BOOLEAN)
            case dict():
                self.kinds.add(OBJECT)
                self._see_fields(value)
            case list():
                self.kinds.add(ARRAY)
                self._see_items(value)
            case float():
                self.kinds.add(FRACTION)
            case int():
                self.kinds.add(_kind_of_whole(value))

    @property
    def form(self) -> Form:
        """What a column for all of these has to be."""
        found = next((form for kinds, form in FORMS if self.kinds <= kinds), Form.JSON)
        return Form.JSON if found is Form.STRUCT and not self.fields else found

    def _see_fields(self, value: dict[str, object]) -> None:
        if self._depth >= DEEPEST or MAP in self.kinds:
            return
        for name, field in value.items():
            shape = self.fields.get(name)
            if shape is None:
                shape = self.fields[name] = Shape(name, self._depth + 1)
            shape.see(field)
        # So many keys are data, not names: a table cannot have a column for each.
        if len(self.fields) > MOST_KEYS:
            self.kinds.add(MAP)
            self.fields = {}

    def _see_items(self, value: list[object]) -> None:
        if self.items is None:
            self.items = Shape(depth=self._depth + 1)
        if self._depth >= DEEPEST:
            self.kinds.add(MAP)
            return
        for item in value:
            self.items.see(item)

    def _kind_of_text(self, value: str) -> str:
        if self._reads is TEXT or TEXT in self.kinds:
            return TEXT
        return self._reads if self._read_moment(value) else TEXT


def _kind_of_whole(value: int) -> str:
    if -EXACT_IN_A_DOUBLE <= value <= EXACT_IN_A_DOUBLE:
        return WHOLE
    return LONG if value in INT64 else HUGE


def _is_instant(value: str) -> bool:
    try:
        return bool(INSTANT.fullmatch(value) and datetime.fromisoformat(value).astimezone(UTC))
    except (ValueError, OverflowError):
        return False


def _is_day(value: str) -> bool:
    try:
        return bool(DAY.fullmatch(value) and date.fromisoformat(value))
    except ValueError:
        return False


def _is_nothing(_: str) -> bool:
    return False


# Only where Asana's names promise a moment: elsewhere "2026-01-01" is somebody's text.
MOMENTS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "_at": (TIMESTAMP, _is_instant),
    "_on": (DATE, _is_day),
}
