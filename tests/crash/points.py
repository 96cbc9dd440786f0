"""Every commit of the service, by name: as its code has them, and as a running process comes to them."""

import ast
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from types import FrameType
from typing import Any

import greenlet
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

import app
from app.worker.transactions import Transactions

ROOT = Path(app.__file__).parent
# Commands of people, and the stand-in for Asana.
NO_PART_OF_THE_SERVICE = ("cli/", "demo.py", "database/migrate.py", "sandbox/")
OF_COMMANDS = {"app.access.credentials.rotate_keys"}
RUNS_STEPS = Transactions.__call__.__code__


def commits() -> Set[str]:
    """The functions that begin a transaction, committed at its end, and the steps they have run in one."""
    found: list[str] = []
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT)
        if not inside.as_posix().startswith(NO_PART_OF_THE_SERVICE):
            tree = ast.parse(path.read_text())
            found += _commits(tree, ".".join(("app", *inside.with_suffix("").parts)), _functions(tree))
    found.remove(f"{Transactions.__module__}.{RUNS_STEPS.co_qualname}")
    alike = {point for point in found if found.count(point) > 1 and "→" not in point}
    assert not alike, f"transactions of one function cannot be told from each other: {alike}"
    return set(found) - OF_COMMANDS


def _functions(tree: ast.Module) -> Set[str]:
    """The names of what may be a step."""
    nodes = list(ast.walk(tree))
    imported = {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    return imported | {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}


def _commits(node: ast.AST, at: str, functions: Set[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inside = at
        match child:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                inside = f"{at}.{name}"
            case ast.Call(func=ast.Attribute(attr="write" | "_write"), args=[ast.Name(id=step), *_]):
                if step in functions:
                    yield _point(at, step)
            case ast.Call(func=ast.Attribute(attr="begin" | "commit")):
                yield at
        yield from _commits(child, inside, functions)


def watch(before: Callable[[str], None], after: Callable[[str], None]) -> None:
    """Be told of each commit of this process, right before it and right after it."""

    # At the commit itself it is too late to ask: SQLAlchemy makes it in a task of its own.
    @event.listens_for(Session, "after_transaction_create")
    def begun(session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            session.info["point"] = _point_here()

    @event.listens_for(Session, "before_commit")
    def committing(session: Session) -> None:
        before(session.info["point"])

    @event.listens_for(Session, "after_commit")
    def committed(session: Session) -> None:
        after(session.info["point"])


def _point_here() -> str:
    ours = (frame for frame in _awaiting() if frame.f_globals["__name__"].startswith("app."))
    frame = next(ours)
    if frame.f_code is RUNS_STEPS:
        return _point(_name(next(ours)), frame.f_locals["step"].__name__)
    return _name(frame)


def _awaiting() -> Iterator[FrameType]:
    """What awaits the session, the innermost first; SQLAlchemy itself is in a greenlet with its own stack."""
    parent = greenlet.getcurrent().parent
    frame: Any = parent.gr_frame if parent else None
    while frame:
        yield frame
        frame = frame.f_back


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}".replace("<locals>.", "")


def _point(place: str, step: str) -> str:
    return f"{place} → {step}"
