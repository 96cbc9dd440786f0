"""Where the database is, in the words of PostgreSQL's own library."""

import traceback

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from app.conninfo import conninfo
from app.settings import Settings

ONE = {"host": "one", "dbname": "x"}


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("postgresql://one/x", ONE),
        ("postgresql+psycopg://u:p%40,1@one:5433/x", ONE | {"user": "u", "password": "p@,1", "port": "5433"}),
        ("postgresql://u:p,1@one/x", ONE | {"user": "u", "password": "p,1"}),
        ("postgresql:///x?host=/run/a+b&port=1", {"host": "/run/a b", "port": "1", "dbname": "x"}),
        ("postgresql://one,two/x", ONE | {"host": "one,two", "port": ","}),
        (
            "postgresql+psycopg://u:p%40@one:1,two:2/x?target_session_attrs=read-write",
            {
                "host": "one,two", "port": "1,2", "dbname": "x", "user": "u", "password": "p@",
                "target_session_attrs": "read-write",
            },
        ),
    ],
)  # fmt: skip
def test_a_url_means_the_same_to_postgresqls_own_library(url: str, meant: dict[str, str]) -> None:
    settings = Settings(database_url=url)
    given = conninfo_to_dict(conninfo(settings.database_url or ""))
    assert {name: value for name, value in given.items() if value} == meant


@pytest.mark.parametrize(
    "url",
    [
        "mysql://one,two/x",
        "postgresql://one:a/x",
        "postgresql://one:a,two:b/x",
        "postgresql://u:hush@secret@one,two/x",
        "postgresql://u:hush@one:5432,[::1/x",
        "postgresql://u:hush@one/x?bogus=1",
        "postgresql://u:hush%zz@one,two/x",
        "postgresql://u:hush@/x?host=one&host=two",
        "postgresql://u:hush@one/x?host=two",
        "one,two",
    ],
)
def test_another_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError, match="database_url") as refused:
        Settings(database_url=url)
    assert "hush" not in str(refused.value)
    assert "hush" not in "".join(traceback.format_exception(refused.value))
