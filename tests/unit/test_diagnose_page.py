"""The page of a diagnosis: whole, self-contained, and safe with any name."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spinlock_dist.diagnosis.causes import causes
from spinlock_dist.diagnosis.record import Diagnosis
from spinlock_dist.diagnosis.render import render_page, write_page
from spinlock_dist.errors import ConfigError
from tests.unit.test_diagnose_causes import HEALTHY, among_healthy

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects text, attributes and anchors, and holds that every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [value for name, value in self.attributes if name == attribute]


@pytest.fixture
def diagnosis() -> Diagnosis:
    awkward = replace(HEALTHY.features[0], feature='summary::<i>& "x"', kurtosis=50.0)
    return among_healthy(
        replace(HEALTHY, name="<b>a & b", fvu=0.4, distance=5.0, features=(awkward, *HEALTHY.features[1:]))
    )


def test_the_page_says_all(diagnosis: Diagnosis) -> None:
    page = Page(render_page(diagnosis))
    for category in diagnosis.categories:
        assert category.name in page.text
        assert f"{category.fvu:.4f}" in page.text
        for feature in category.features:
            assert feature.feature in page.text
        for sentence in causes(category, diagnosis):
            assert sentence[1:] in page.text
    rows = sum(1 + len(each.codebooks) + len(each.features) for each in diagnosis.categories)
    tables = 1 + 2 * len(diagnosis.categories)
    assert page.tags.count("tr") == rows + tables


def test_names_are_not_markup(diagnosis: Diagnosis) -> None:
    page = Page(render_page(diagnosis))
    assert page.tags.count("b") == len(diagnosis.categories), "one mark a bar, none from a name"
    assert page.tags.count("i") == len(diagnosis.categories)


def test_names_turn_and_hide_nothing(diagnosis: Diagnosis) -> None:
    first, *others = diagnosis.categories
    named = replace(diagnosis, categories=(replace(first, name="a\u202egnp\x1b[2J\u200b"), *others))
    page = render_page(named)
    assert "a\\u202egnp\\x1b[2J\\u200b" in page
    assert not any(letter in page for letter in "\u202e\x1b\u200b")


def test_links_lead_somewhere(diagnosis: Diagnosis) -> None:
    page = Page(render_page(diagnosis))
    links = page.values("href")
    assert len(links) == len(diagnosis.categories)
    assert [link.removeprefix("#") for link in links] == page.values("id")


def test_the_page_needs_nothing_else(diagnosis: Diagnosis) -> None:
    page = render_page(diagnosis)
    assert not {"script", "link", "img", "iframe"} & set(Page(page).tags)
    assert not re.search(r"https?:|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_bars_stay_in_their_track(diagnosis: Diagnosis) -> None:
    widths = [
        float(width) for width in re.findall(r"width:([\d.]+)%", " ".join(Page(render_page(diagnosis)).values("style")))
    ]
    assert max(widths) == 100
    assert widths == [pytest.approx(100 * each.fvu / 0.4, abs=0.1) for each in diagnosis.categories]


def test_the_page_is_written_or_refused(diagnosis: Diagnosis, tmp_path: Path) -> None:
    write_page(tmp_path / "new" / "page.html", diagnosis)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == render_page(diagnosis)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_page(tmp_path / "new", diagnosis)
