"""The list of guards has not fallen behind the code, the tests, and the page about it."""

import ast

import pytest

from tests.mutation.guard import ROOT, Guard
from tests.mutation.guards import GUARDS
from tests.mutation.page import PAGE, page


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_where_it_is_taken_out(guard: Guard) -> None:
    for edit in guard.edits:
        assert (ROOT / edit.file).read_text().count(edit.old) == 1
        assert edit.new != edit.old


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_test_of_a_guard_exists(guard: Guard) -> None:
    file, _, name = guard.test.partition("::")
    body = ast.parse((ROOT / file).read_text()).body
    names = {each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name.partition("[")[0] in names


def test_each_guard_has_a_name_of_its_own() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


def test_the_page_has_exactly_the_guards_of_the_list() -> None:
    assert PAGE.read_text() == page(), "`python -m tests.mutation --write` writes it anew"
