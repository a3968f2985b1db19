"""What a study is said to cost."""

from __future__ import annotations

import pytest

from study.cluster.resources import Resources
from study.config import FinalsConfig, StoppingConfig, StudyConfig
from study.phases.estimate import Pilot, duration, forecast

PILOT = Pilot(start=2.0, epoch=0.5, checkpoint=1000)


def make_config(**given) -> StudyConfig:
    settings = {"trials": 5, "baseline_seeds": 3, "finals": FinalsConfig(top=2, replicates=4, seeds=2)}
    return StudyConfig(name="s", **{**settings, **given})


def test_every_phase_is_counted_by_hand():
    plan = forecast(make_config(), 40, Resources(2, 1, 0.5), {1: PILOT}, prepare_seconds=7.0)
    assert plan.training_seconds == 22
    assert {phase.name: (phase.trainings, phase.seconds) for phase in plan.phases} == {
        "baseline": (3 * 3, 5 * 22),  # three folds, two at a time
        "search": (5 * 3, 8 * 22),
        "finals": (8 * 4, 16 * 22),  # two best, plain feedback, their controls, a uniform trial, the baseline
        "verification": (2 * 3, 3 * 22),
    }
    assert plan.phases[1].device_hours == pytest.approx(15 * 22 * 0.5 / 3600)
    assert plan.first_result_seconds == 7 + 5 * 22 + 3 * 22
    assert plan.disk == 1000 * (5 + 1) + 2 * 2 * 3000
    assert any("GPU-hours" in line for line in plan.lines())


def test_a_batch_takes_its_own_time_and_holds_its_resources_once():
    together = Pilot(start=4.0, epoch=1.0, checkpoint=1000)
    plan = forecast(make_config(trials=40), 40, Resources(2, 1, 0.5), {1: PILOT, 8: together}, 0.0)
    assert [phase.seconds for phase in plan.phases][:2] == [5 * 22, 8 * 44]  # 15 trial batches, two at a time
    assert plan.phases[1].device_hours == pytest.approx(15 * 44 * 0.5 / 3600)
    assert "8 trials of the search in lock step" in next(plan.lines())


def test_a_tournament_has_a_search_and_a_finalist_for_each_arm():
    plan = forecast(make_config(tournament=True), 40, Resources(2, 1, 0), {1: PILOT}, 0.0, searches=4)
    assert [phase.trainings for phase in plan.phases] == [3 * 3, 5 * 4 * 3, (4 + 4 + 1) * 4, 2 * 3]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"stopping": StoppingConfig(grace=15, reduction=2)}, 15 + 15 / 2 + 90 / 4),
        ({"stopping": StoppingConfig(grace=10, reduction=2)}, 10 + 10 / 2 + 20 / 4 + 80 / 8),
        ({"stopping": StoppingConfig(grace=40)}, 40 + 80 / 2),
        ({"stopping": StoppingConfig(rule="none")}, 120),
        ({"objective": "pareto", "sampler": "nsga2"}, 120),
    ],
)
def test_successive_halving_saves_what_its_rungs_hold_back(settings, expected):
    plan = forecast(make_config(**settings), 40, Resources(2, 1, 0), {1: PILOT}, 0.0)
    assert plan.mean_epochs == pytest.approx(expected)
    assert any("early stopping" in line for line in plan.lines()) == (expected < 120)


def test_durations_are_said_as_people_say_them():
    assert [duration(value) for value in (0.0123, 1.5, 99, 600, 3 * 3600 + 125)] == [
        "12 ms",
        "1.5 s",
        "99 s",
        "10 min",
        "3 h 2 min",
    ]
