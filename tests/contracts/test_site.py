"""The documentation as a site: every link leads somewhere, every page is found, nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

FETCHED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page names: the places it has, the links it shows, and what a browser fetches for it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if FETCHED.get(tag, "") in given:
            self.fetched.add(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strict build."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=repository, env=quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> dict[Path, Page]:
    """Its pages by file; the one that a server shows for what is not there has links of its own kind."""
    return {file: Page(file) for file in folder.rglob("*.html") if file.name != "404.html"}


def test_every_link_leads_to_a_place_on_the_site(site: dict[Path, Page]) -> None:
    broken = []
    for file, page in site.items():
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = file if not parts.path else Path(os.path.normpath(file.parent / unquote(parts.path)))
            target = target / "index.html" if target.is_dir() else target
            known = site[target].places if target in site else None
            if not target.exists() or (parts.fragment and known is not None and unquote(parts.fragment) not in known):
                broken.append(f"{file.name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(site: dict[Path, Page]) -> None:
    assert not {link for page in site.values() for link in page.fetched if urlsplit(link).netloc}


def test_every_page_of_the_repository_is_in_the_navigation(
    repository: Path, folder: Path, site: dict[Path, Page]
) -> None:
    shown = {urlsplit(link).path for link in site[folder / "index.html"].links}
    pages = {path.relative_to(repository / "docs").with_suffix(".html") for path in repository.glob("docs/**/*.md")}
    assert {page.as_posix() for page in pages} <= shown


def test_lists_and_tables_are_shown_as_such(site: dict[Path, Page]) -> None:
    """What a repository's host takes for a list or a table is text on the site where no empty line is before it."""
    text = {file.name: re.sub(r"<(pre|code).*?</\1>", "", file.read_text(), flags=re.DOTALL) for file in site}
    assert not {name for name, page in text.items() if re.search(r"^(- |\d+\. |\|.*\|$)", page, re.MULTILINE)}


def test_the_settings_are_those_of_the_program(repository: Path) -> None:
    written = runpy.run_path(str(repository / "docs" / "site" / "settings.py"))["page"]()
    page = (repository / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == written, "run: python docs/site/settings.py"
