"""The standings of a tournament: order, words and files."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from results.records.stage import tournament_arms
from results.records.study_folder import StudyFolder
from results.records.trial_record import BASELINE
from results.report.terminal import tournament_table
from results.verdict.standings import standings, tournament_sentence, write_standings
from results.verdict.verdict import Terms, judge
from search_spaces import load_space
from search_spaces.space import space_content
from spinlock_dist.atomic_files import read_json
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.phases.tournament import arms


def final(arm: str) -> str:
    """Return the name in the finals: dimensionality's best trial is its second."""
    return arm if arm == BASELINE else f"{arm}/trial-{int(arm == 'dimensionality')}"


@pytest.fixture
def rows(make_record, make_metrics):
    """Two arms that are alike and better than uniform, one like uniform, and one without a feasible trial."""
    rng = np.random.default_rng(0)
    worst = {BASELINE: 0.5, "dimensionality": 0.5, "feedback": 0.3, "waterfill": 0.301}
    finals = [
        make_record(number, phase="final", arm=final(arm), test=make_metrics(value * np.exp(rng.normal(0, 0.02)), 0.1))
        for number in range(8)
        for arm, value in worst.items()
    ]
    found = {
        "dimensionality": [make_record(0, 0.45, 0.1), make_record(1, 0.4, 0.1), make_record(2, state="diverged")],
        "feedback": [make_record(0, 0.3, 0.1)] * 3,
        "random": [make_record(0, 0.3, 0.3, guards={"fvu_mean": 0.2})] * 3,
        "waterfill": [make_record(0, 0.31, 0.1)] * 3,
    }
    searches = {
        arm: [replace(record, arm=f"{arm}/{record.arm}") for record in records] for arm, records in found.items()
    }
    controls = {final(arm): BASELINE for arm in worst if arm != BASELINE}
    return standings(searches, judge(finals, Terms(controls=controls, overlap=0, first=8, last=8)))


def test_arms_share_ranks_that_are_not_told_apart(rows):
    assert [(row.arm, row.ranks) for row in rows] == [
        ("feedback", (1, 2)),
        ("waterfill", (1, 2)),
        ("dimensionality", (3, 3)),
        ("random", None),
    ]
    assert [row.verdict for row in rows] == ["better", "better", "no difference shown", None]
    dimensionality = rows[2]
    assert (dimensionality.trials, dimensionality.feasible, dimensionality.best) == (3, 2, 1)
    assert dimensionality.validation == pytest.approx(4)


def test_the_sentence_claims_no_winner_that_was_not_shown(rows):
    text = tournament_sentence(rows)
    assert "better than uniform ratios: feedback, waterfill." in text
    assert text.endswith("Any of these could rank first: feedback, waterfill.")
    alone = [rows[0], *rows[2:]]
    assert "First is feedback, shown to be ahead of every other strategy" in tournament_sentence(alone)


def test_the_table_fits_a_terminal(rows):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tournament_table(rows))
    text = console.export_text()
    assert "1-2" in text
    assert re.search("0/3 +no trial", text)
    assert "not shown" in text
    assert "…" not in text
    assert "dimensionality" in text


def test_the_file_has_a_row_an_arm(rows, tmp_path):
    folder = StudyFolder(tmp_path)
    write_standings(folder, rows)
    assert [row["ranks"] for row in read_json(folder.tournament)] == [[1, 2], [1, 2], [3, 3], None]
    table = pd.read_parquet(tmp_path / "tournament.parquet")
    assert table["arm"].tolist() == ["feedback", "waterfill", "dimensionality", "random"]
    assert table["rank_last"].tolist()[:3] == [2, 2, 3]
    assert (table["imbalance.low"] < table["imbalance.ratio"])[:3].all()


# ---------------------------------------------------------------- who takes part


@pytest.mark.parametrize("name", ["adaptive_compression", "full"])
def test_every_strategy_has_an_arm_and_so_has_chance(name):
    space = load_space(name)
    found = arms(StudyConfig(name="t", trials=7, tournament=True), space)
    assert [arm.name for arm in found] == [*space.parameters["compression.strategy"].choices, "random"]
    assert {arm.config.trials for arm in found} == {7}
    assert found[-1].config.sampler == "random"
    assert found[-1].space is space
    assert not found[-1].enqueue_initial
    [only] = arms(StudyConfig(name="t"), space)
    assert (only.name, only.space) == ("", space)
    assert tournament_arms(space_content(space)) == [arm.name for arm in found]


def test_a_space_of_one_strategy_holds_no_tournament():
    space = load_space("quick").only("compression.strategy", "balanced")
    with pytest.raises(ConfigError, match=r"compression\.strategy has no choices"):
        arms(StudyConfig(name="t", tournament=True), space)
