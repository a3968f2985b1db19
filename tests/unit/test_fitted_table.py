"""Tables in terminals of any width: fewer columns where it is narrow, and no figure cut."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from results.compare import _beside
from spinlock_dist.fitted_table import Column, FittedTable, table_of_figures

COLUMNS = [
    Column("rank"),
    Column("imbalance"),
    Column("worst", place=2),
    Column("mean", place=3),
    Column("settings", place=1, left=True, wraps=14, eases=20),
]
CELLS = ("12", "37.87x ±19%", "0.322 ±8%", "0.116 ±8%", "dimensionality graded latent, learning rate 0.0021")


def printed(table: FittedTable, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("width", range(30, 101, 5))
def test_every_figure_is_whole_or_not_there(width):
    table = FittedTable(COLUMNS)
    table.add_row(*CELLS)
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert CELLS[1] in text
    for heading, figure in (("worst", CELLS[2]), ("mean", CELLS[3])):
        assert (heading in text) == (figure in text)
    letters = re.sub(r"[^a-z]", "", text.replace("worst", "").replace("mean", "", 1))
    assert ("settings" in text) == ("dimensionality" in letters)
    assert "settings" in text or width < 34
    assert "mean" not in text or "worst" in text
    assert "…" not in text


def test_text_is_given_its_ease_before_less_important_columns_come_in():
    table = FittedTable(COLUMNS)
    table.add_row(*CELLS)
    # 4 + 11 + 20 and two gaps leave nothing of 39 for a further column; with five more there is one
    assert "worst" not in printed(table, 39)
    assert "worst" in printed(table, 47)


def test_the_caption_knows_which_columns_are_shown():
    table = FittedTable(COLUMNS, caption=lambda names: f"shown: {', '.join(names)}")
    table.add_row(*CELLS)
    assert "shown: rank, imbalance\n" in " ".join(printed(table, 24).split()) + "\n"


@pytest.mark.parametrize("width", [40, 80])
def test_of_figures_those_that_matter_stay(width):
    table = table_of_figures("t", "category", ["features", "codes", "carried", "FVU", "raw MSE", "dead"], ["FVU"])
    table.add_row("a_category_with_a_long_name", "12", "16 16 4", "10.1/12.0", "0.1234", "0.12", "3")
    text = printed(table, width)
    assert "0.1234" in text
    assert ("raw MSE" in text) == (width == 80)


def test_studies_that_do_not_fit_side_by_side_stand_below_each_other():
    figures = {name: {"imbalance": "0.19 (0.11 to 0.32)"} for name in ("a", "b", "c")}
    assert _beside(figures, 45) == [["a", "b"], ["c"]]
    assert _beside(figures, 100) == [["a", "b", "c"]]
    assert _beside(figures, 5) == [["a"], ["b"], ["c"]]
