"""Which keys the objects of a file have, seen on every line at the speed of a parser in C.

What has been seen is made into a type, and lines are decoded as that: where something is new, a line does not
fit, and only then is it walked through.
"""

import re
from typing import Any

import msgspec

MOST_PATHS = 1000
MOST_LEVELS = 20
# Whole numbers as well: as floats they are refused where orjson would refuse them, too.
SCALAR: Any = None | bool | float | str
UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')
# Why msgspec may not take a line; whether it is at fault is for others to say.
UNTAKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class KeyPaths:
    """The keys of all objects of one resource type, as long as there are no more than `MOST_PATHS`.

    Keys more than `MOST_LEVELS` objects and lists deep do not count.
    """

    def __init__(self) -> None:
        self._seen: Place | None = Place(MOST_LEVELS)
        self._decoder: msgspec.json.Decoder[Any] | None = None

    def fits(self, line: bytes) -> bool:
        """Whether a line is JSON with nothing new in it; one that does not fit may not be JSON either."""
        if self._decoder is None:
            known = self._seen.as_type() if self._seen else Any
            self._decoder = msgspec.json.Decoder(known)
        try:
            self._decoder.decode(line)
        except UNTAKEN:
            return False
        return True

    def learn(self, value: dict[str, Any]) -> None:
        """Take in what is new of a line that did not fit."""
        if self._seen and self._seen.learn(value):
            self._decoder = None
            if len(self._seen.paths()) > MOST_PATHS:
                self._seen = None

    def paths(self) -> list[str] | None:
        """The way to every key, such as `custom_fields[].enum_value.gid`, sorted; None if too many."""
        return sorted({storable(path) for path in self._seen.paths()}) if self._seen else None


def storable(name: str) -> str:
    """A name as PostgreSQL can keep it, which knows no NUL."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Place:
    """What has been seen at one place of the lines: objects with keys, lists with items, or neither."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._keys: dict[str, Place] | None = None
        self._items: Place | None = None
        self._type: Any = SCALAR if levels else Any

    def learn(self, value: Any) -> bool:
        """Take in a value; tells whether anything of it was new."""
        if not self._levels or not isinstance(value, dict | list):
            return False
        new = self._learn_keys(value) if isinstance(value, dict) else self._learn_items(value)
        if new:
            self._type = None
        return new

    def _learn_keys(self, value: dict[str, Any]) -> bool:
        new = self._keys is None or not value.keys() <= self._keys.keys()
        self._keys = self._keys or {}
        for key, part in value.items():
            place = self._keys.setdefault(key, Place(self._levels - 1))
            new = place.learn(part) or new
        return new

    def _learn_items(self, value: list[Any]) -> bool:
        new = self._items is None
        self._items = self._items or Place(self._levels - 1)
        for part in value:
            new = self._items.learn(part) or new
        return new

    def as_type(self) -> Any:
        """What `msgspec` decodes in full only if it has nothing new."""
        if self._type is None:
            self._type = SCALAR
            if self._items is not None:
                self._type |= list[self._items.as_type()]  # type: ignore[misc]
            if self._keys is not None:
                self._type |= self._object()
        return self._type

    def _object(self) -> Any:
        keys = self._keys or {}
        # Keys need not be names in Python. Those that msgspec does not know either never fit.
        names = {f"key{number}": key for number, key in enumerate(keys) if not UNNAMEABLE.search(key)}
        return msgspec.defstruct(
            "Object",
            [(name, keys[key].as_type(), None) for name, key in names.items()],
            rename=names,
            forbid_unknown_fields=True,
            gc=False,
        )

    def paths(self, way: str = "") -> set[str]:
        """The ways from here to all keys."""
        found = set[str]()
        for key, place in (self._keys or {}).items():
            step = f"{way}.{key}" if way else key
            found |= {step} | place.paths(step)
        return found | self._items.paths(f"{way}[]") if self._items else found
