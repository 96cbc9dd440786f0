"""Where the database is, in the words of PostgreSQL's own library; that reads URLs, but not all of ours."""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

FORM = "must be `postgresql://user:password@host/name`"
# A URL that SQLAlchemy does not read, but PostgreSQL's own library does.
SEVERAL_HOSTS = re.compile(r"postgresql(\+\w+)?://([^/?#@]*@)?[^/?#@,]+(,[^/?#@,]+)+([/?]|$)")


def conninfo(url: str) -> str:
    """The same in another form. Raises `ValueError`, which does not show the URL: it may hold a password."""
    try:
        given = _several(url) if SEVERAL_HOSTS.match(url) else _one(url)
    except (ArgumentError, TypeError, psycopg.Error):
        raise ValueError(FORM) from None
    ports = str(conninfo_to_dict(given).get("port") or "").split(",")
    if not all(port.isdecimal() for port in ports if port):
        raise ValueError("its port must be a number")
    return given


def _several(url: str) -> str:
    return make_conninfo("postgresql" + url[url.index("://") :])


def _one(url: str) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        raise ValueError(FORM)
    if "@" in (parsed.host or ""):
        raise ValueError("its user and password must be percent-encoded: @ as %40")
    once = {name: value for name, value in parsed.query.items() if isinstance(value, str)}
    if once.keys() != parsed.query.keys():
        raise ValueError("each of its parameters must be given once; hosts are separated by commas")
    return make_conninfo(**parsed.translate_connect_args(username="user", database="dbname"), **once)
