"""A trial is described alike whether its study searches a setting or fixes it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from results.analysis.hypotheses import hypotheses
from results.analysis.strategies import by_strategy
from results.leaderboard import as_json
from results.records.settings import CHOICES, TrialSettings
from results.records.study_record import StudyRecord, read_study
from results.report.figures import figures
from results.report.sections import sections
from results.report.terminal import leaderboard
from spinlock_dist.config import TrialConfig
from tests.synthetic_study import build_study

SPACE = """
description: Every choice named, to be fixed one by one
parameters:
  compression.strategy: {type: categorical, choices: [balanced]}
  compression.rule: {type: categorical, choices: [spinlock]}
  compression.capacity: {type: categorical, choices: [latent]}
  compression.bounds.L0.low: {type: float, low: 0.1, high: 0.5, log: true}
  compression.bounds.L0.span: {type: float, low: 1.6, high: 10.0, log: true}
"""
OF_THE_SEARCH = {"importance", "slices", "contour", "parallel"}
"""Figures of what was searched: a setting that is fixed has no place there."""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "named.yaml").write_text(SPACE)
    return read_study(build_study(runs, "searched", 20, space=str(runs / "named.yaml")))


def fixing(study: StudyRecord, name: str) -> StudyRecord:
    """The same study, had its space fixed `name` at the one choice it has."""
    space = json.loads(json.dumps(study.description["space"]))
    (choice,) = space["parameters"].pop(name)["choices"]
    description = {**study.description, "space": {**space, "fixed": {**space["fixed"], name: choice}}}
    without = [
        replace(each, params={key: value for key, value in each.params.items() if key != name})
        for each in study.records
    ]
    return replace(study, records=without, description=description)


def told(study: StudyRecord) -> dict[str, Any]:
    """All that is said and drawn of a study but for what is about the search itself."""
    said = sections(study)
    return {
        "hypotheses": hypotheses(study),
        "strategies": [(row.strategy, row.trials, row.feasible) for row in by_strategy(study.search, study.settings)],
        "configs": [study.config(record) for record in study.search],
        "words": [study.settings.in_words(record) for record in study.search],
        "tables": [table for section in said.values() for table in section.tables],
        "texts": [section.texts for name, section in said.items() if name != "learned"],
        "figures": {name: figure.to_json() for name, figure in figures(study).items() if name not in OF_THE_SEARCH},
    }


@pytest.mark.parametrize("name", CHOICES)
def test_a_setting_that_is_fixed_is_told_like_one_that_is_searched(searched, name):
    fixed = fixing(searched, name)
    assert all(name in record.params for record in searched.search)
    assert not any(name in record.params for record in fixed.search)
    ours, theirs = told(searched), told(fixed)
    assert ours.keys() == theirs.keys()
    for part in ours:
        assert theirs[part] == ours[part], part
    assert {"strategies", "ratios", "categories"} <= ours["figures"].keys()
    assert ours["words"][0] == "balanced spinlock latent"


@pytest.mark.parametrize("name", CHOICES)
def test_so_it_is_in_the_leaderboard(searched, name):
    fixed = fixing(searched, name)
    assert as_json(fixed, None) == as_json(searched, None)
    assert as_json(fixed, None)["trials"][0]["strategy"] == "balanced"
    shown = []
    for study in (searched, fixed):
        console = Console(width=100, file=io.StringIO())
        console.print(leaderboard(study.baseline, study.search, study.settings))
        shown.append(console.file.getvalue())
    assert shown[0] == shown[1]
    assert "balanced spinlock latent" in shown[0]


def test_what_cannot_be_read_is_not_made_up(searched):
    lost = replace(searched, description={**searched.description, "space": None})
    record = lost.search[0]
    assert lost.settings == TrialSettings({})
    assert lost.settings.value(record, "compression.strategy") == "balanced"
    assert lost.settings.value(record, "training.epochs") is None


def test_a_bound_has_a_span_whichever_way_it_is_given(make_record):
    settings = TrialSettings.of(TrialConfig().with_overrides({"compression.bounds.L0.high": 1.0}))
    low = TrialConfig().compression.bounds.L0.low
    assert settings.value(make_record(0), "compression.bounds.L0.span") == pytest.approx(1.0 / low)
