"""The source's recommendations, and what came of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.analysis.hypotheses import hypotheses
from results.analysis.recommendations import recommendations
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import ranking
from results.report.terminal import causes_in_words
from tests.synthetic_study import build_study


@pytest.fixture
def study(tmp_path: Path) -> StudyRecord:
    return read_study(build_study(tmp_path, "s", 12))


def test_all_five_are_answered_from_the_studys_own_figures(study: StudyRecord) -> None:
    found = recommendations(study)
    assert len(found) == 5
    baseline, best = study.baseline, study.best
    assert baseline is not None and baseline.metrics is not None
    assert best is not None and best.metrics is not None
    epochs, scale, bolder, worst, length = (each.came for each in found)
    assert "of training the uniform baseline's imbalance changed by" in epochs
    assert f"On normalized features it is {baseline.metrics.imbalance:.3g}x." in scale
    strategy = study.settings.strategy(best)  # what is exported need not be the best of the search
    first_of_it = next(each for each in ranking(study.search) if study.settings.strategy(each) == strategy)
    assert first_of_it.metrics is not None
    ratio = first_of_it.metrics.estimate("imbalance") / baseline.metrics.estimate("imbalance")
    assert f"{strategy} {ratio:.2f} and " in bolder
    assert "uniform" not in bolder
    name = baseline.metrics.worst_category
    first = study.categories[name][0].rpartition("::")[2]
    assert worst.startswith(f"Under uniform ratios that is {name} (") and f": {first}, " in worst
    assert f"FVU {baseline.metrics.fvu[name]:.3f} at " in worst
    assert f"In trial {best.number} it has {best.metrics.fvu[name]:.3f} at " in worst
    completed = sum(record.state == "complete" for record in study.search)
    assert f"all {completed} trials that completed were trained for {baseline.epochs} epochs" in length


def test_features_that_are_unknown_are_left_out(study: StudyRecord) -> None:
    study.folder.categories.unlink()
    assert " (" not in recommendations(study)[3].came.split(",")[0]


def test_the_causes_are_told_in_a_line(study: StudyRecord) -> None:
    told = causes_in_words(study)
    assert told.startswith("Suspected causes of the imbalance: too few epochs: ")
    for cause in hypotheses(study):
        assert f"{cause.name}: {cause.word}" in told


def test_nothing_is_said_before_there_is_a_baseline(study: StudyRecord) -> None:
    study.records = []
    assert recommendations(study) == []
    assert causes_in_words(study) == ""
