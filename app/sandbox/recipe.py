"""All that the bytes of a file follow from, so that a file can be made again at any time."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from app.opt_fields import pick
from app.sandbox import content, filters
from app.sandbox.cast import Cast, cast_of
from app.sandbox.dice import fraction
from app.sandbox.exportrequests import Item
from app.sandbox.graph import flat, graph_lines
from app.sandbox.settings import WorkspaceSpec
from app.sandbox.world import Parent


@dataclass(frozen=True)
class Viewer:
    """Whose permissions trim the content: a share of the objects, always the same ones."""

    name: str
    sees: float

    def may_see(self, seed: int, gid: str) -> bool:
        """Whether this viewer has access to the object."""
        return self.sees >= 1 or fraction(seed, zlib.crc32(self.name.encode()), int(gid)) < self.sees


@dataclass(frozen=True)
class Recipe:
    """What an export was asked for, of which world, by whom and as of when."""

    seed: int
    viewer: Viewer
    as_of: float

    @property
    def workspace(self) -> WorkspaceSpec:
        """Where the content comes from."""
        raise NotImplementedError

    def lines(self) -> Iterator[bytes]:
        """The lines of the file, one at a time."""
        raise NotImplementedError


@dataclass(frozen=True)
class GraphRecipe(Recipe):
    """The file of a graph export."""

    parent: Parent
    flattened: bool

    @property
    def workspace(self) -> WorkspaceSpec:
        return self.parent.spec

    def lines(self) -> Iterator[bytes]:
        cast = cast_of(self.seed, self.parent.spec)
        for line in graph_lines(cast, self.parent, self.as_of):
            if self.viewer.may_see(cast.seed, line["gid"]):
                yield orjson.dumps(flat(line) if self.flattened else line, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class ResourceRecipe(Recipe):
    """The file of a resource export: item after item, so that overlapping items repeat objects."""

    spec: WorkspaceSpec
    items: tuple[Item, ...]
    inclusive: bool

    @property
    def workspace(self) -> WorkspaceSpec:
        return self.spec

    def lines(self) -> Iterator[bytes]:
        cast = cast_of(self.seed, self.spec)
        for item in self.items:
            yield from self._lines_of(cast, item)

    def _lines_of(self, cast: Cast, item: Item) -> Iterator[bytes]:
        wanted = filters.passes(item.filters, inclusive=self.inclusive)
        for line in self._objects(cast, item.resource_type):
            if not (self.viewer.may_see(cast.seed, line["gid"]) and wanted(line)):
                continue
            shown = content.without_opt_in(line) if item.fields is None else pick(line, item.fields)
            yield orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)

    def _objects(self, cast: Cast, resource_type: str) -> Iterator[content.Line]:
        match resource_type:
            case "team":
                yield from (content.team(cast, number) for number in range(1, self.spec.teams + 1))
            case "message":
                made = (content.message(cast, n, self.as_of) for n in range(1, self.spec.messages + 1))
                yield from (line for line in made if line is not None)
            case _:
                made = (content.task(cast, n, self.as_of) for n in range(1, self.spec.tasks + 1))
                yield from (line for line in made if line is not None)
