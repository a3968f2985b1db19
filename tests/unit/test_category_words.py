"""Categories and configs in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from results.analysis.category_words import codes_in_words, described, labelled, moves
from results.analysis.config_words import config_in_words
from results.records.settings import TrialSettings
from results.records.study_record import StudyRecord, read_study
from spinlock_dist.compression.strategies import STRATEGIES
from tests.synthetic_study import build_study


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ((), ""),
        (("summary::a",), "1 feature, summary: a"),
        (("summary::a", "summary::b"), "2 features, all summary: a, b"),
        (
            ("summary::a", "temporal::b", "summary::c", "summary::d"),
            "4 features, 3 summary and 1 temporal: a, b, c and 1 more",
        ),
        (("width", "height"), "2 features: width, height"),
        (("x::a", "y::b", "z::c"), "3 features, 1 x, 1 y and 1 z: a, b, c"),
    ],
)
def test_features_in_words(features: tuple[str, ...], words: str) -> None:
    assert described(features) == words


def test_labels_of_an_axis_stay_short() -> None:
    assert labelled("c", []) == "c"
    assert labelled("c", ["f::only"]) == "c: only"
    assert labelled("c", ["f::" + "long_" * 20, "f::b"]) == f"c: {('long_' * 20)[:27]}… +1"


def test_codes_are_told_level_by_level(make_metrics) -> None:
    def book(level: str, codes: int) -> dict[str, object]:
        return {"category": "c0", "level": level, "dim": 4, "codes": codes, "used": codes, "perplexity": 2.0}

    metrics = make_metrics(0.5, 0.1, codebooks=[book("L0", 64), book("L0.2", 8), book("L2", 16)])
    assert codes_in_words(metrics, "c0") == "64x8, off, 16"


def test_what_moved_is_told_with_the_worst_first(make_metrics) -> None:
    before, after = make_metrics(0.1, 0.5), make_metrics(0.2, 0.3)
    assert [(each.category, each.fvu) for each in moves(before, after)] == [("c1", (0.5, 0.3)), ("c0", (0.1, 0.2))]
    assert moves(before, make_metrics(0.2, 0.3, 0.4)) == [], "other categories cannot be compared"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return read_study(build_study(tmp_path_factory.mktemp("runs"), "worded", 8))


def test_a_config_in_words_leaves_out_what_made_no_difference(study: StudyRecord) -> None:
    trial = study.search[0]

    def told(**params: object) -> str:
        named = {f"compression.{name}": value for name, value in params.items()}
        return config_in_words(study, replace(trial, params={**named, "training.learning_rate": 0.00213}))

    rate = "training.learning_rate 0.00213"
    assert told(strategy="uniform", rule="graded", sharpness=2.0) == (
        f"strategy uniform, the same ratios for every category; {rate}"
    )
    assert told(strategy="variance", rule="spinlock", capacity="latent") == (
        "strategy variance, which gives more to categories of larger raw variance, by Spinlock's published rule; its "
        f"ratios move latent dimensions alone; {rate}"
    )
    assert told(strategy="feedback", rule="graded", capacity="codes") == (
        "strategy feedback, which gives more to categories in which pilots measured more error; its ratios move codes; "
        f"{rate}"
    )


def test_every_strategy_but_uniform_says_whom_it_gives_more() -> None:
    assert {name for name in STRATEGIES if not STRATEGIES[name].idea} == {"uniform"}


def test_of_an_unknown_strategy_nothing_is_without_effect(make_record) -> None:
    settings = TrialSettings({})
    assert not settings.is_inert(make_record(0, params={"compression.strategy": "lost"}), "compression.rule")
    record = make_record(0, params={"compression.strategy": "uniform", "compression.rule": "graded", "loss.x": 1})
    assert settings.live(record) == {"compression.strategy": "uniform", "loss.x": 1}
