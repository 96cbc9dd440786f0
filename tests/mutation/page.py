"""The page of all guards, for people."""

from tests.mutation.guard import ROOT
from tests.mutation.guards import GUARDS

PAGE = ROOT / "docs" / "guards.md"
INTRODUCTION = """\
# Guards

Some lines of this service do nothing as long as nothing goes wrong: a lock, a comparison, a limit. Nobody
would notice if one of them were lost in a change, until the day on which it was needed. So each is listed
here with what it keeps from happening and with a test that fails without it. That the test does fail is
tried, not believed: `make mutation` takes the guards out one at a time, each in a copy of the code of its
own, and runs the test there. It writes this page too (`python -m tests.mutation --write`); the list is in
`tests/mutation/guards`.

| guard | what it keeps from happening | taken out, this test fails |
|---|---|---|
"""


def page() -> str:
    return INTRODUCTION + "".join(f"{guard.row}\n" for guard in GUARDS)
