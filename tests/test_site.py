"""The site of the documentation is whole, and needs nothing from elsewhere."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from app.main import create_app
from app.problems import Code
from tests.processes import BIN

ROOT = Path(__file__).parents[1]
# What a browser fetches by itself, not what a reader may follow.
FETCHED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Seen(HTMLParser):
    """The addresses in a page, and the places in it that others may point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: set[str] = set()
        self.followed: set[str] = set()
        self.places: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.places.add(value or "")
            elif (tag, name) in FETCHED and ("rel", "canonical") not in attributes:
                self.fetched.add(value or "")
            elif (tag, name) == ("a", "href"):
                self.followed.add(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [BIN / "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Seen]:
    return {path: Seen(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_there(site: Path, pages: dict[Path, Seen]) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    there = {path.relative_to(site) for path in pages}
    assert there == written | {Path("api.html"), Path("problems.html"), Path("404.html")}


def test_nothing_is_fetched_from_elsewhere(pages: dict[Path, Seen]) -> None:
    fetched = {address for page in pages.values() for address in page.fetched}
    assert fetched
    assert not {address for address in fetched if urlsplit(address).netloc}


def test_what_is_followed_leads_somewhere(site: Path, pages: dict[Path, Seen]) -> None:
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for address in page.followed | page.fetched:
            there = urlsplit(address)
            if there.netloc or there.scheme:
                continue
            target = (path.parent / unquote(there.path)).resolve() if there.path else path
            assert target.exists(), f"{path.relative_to(site)}: {address}"
            if there.fragment and target in pages:
                places = pages[target].places | {"__top"}
                assert unquote(there.fragment) in places, f"{path.relative_to(site)}: {address}"


def test_the_reference_has_every_operation_and_every_problem(site: Path) -> None:
    api, problems = (site / "api.html").read_text(), (site / "problems.html").read_text()
    paths = create_app().openapi()["paths"]
    operations = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert {name for name in operations if f"<code>{name}</code>" not in api} == set()
    assert {code for code in Code if not re.search(rf'id="{code}"', problems)} == set()
