"""Who is compared in the finals, with what, and how many replicates they get."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from results.records.identity import training_identity
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, read_records, write_records
from results.verdict.verdict import Terms
from search_spaces import load_space
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.events import PhaseStart, StudyEvents
from study.phases.belonging import controls_of
from study.phases.finals import Finals, arms_and_controls, choose_finalists, matched_control, terms_of
from study.phases.search import Searched, signals_given_back

STRATEGY, RATE = "compression.strategy", "training.learning_rate"


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """What of a study's context its finals read."""
    config = StudyConfig(name="s", space="full")
    space = load_space("full")
    base = space.to_config(config.base, {})
    return SimpleNamespace(
        config=config,
        base=base,
        uniform=base.with_overrides({STRATEGY: "uniform"}),
        folder=StudyFolder(tmp_path),
        trial=lambda record: space.to_config(config.base, record.params),
    )


def searched(*records: TrialRecord) -> Searched:
    return Searched({"": list(records)}, [], "")


def arms(context: Any, records: Sequence[TrialRecord]) -> list[str]:
    return [finalist.arm for finalist in choose_finalists(context, searched(*records))]


def test_the_best_candidates_plain_feedback_and_the_best_uniform_trial_are_finalists(context, make_record):
    base_rate = context.base.training.learning_rate
    records = [
        make_record(0, 0.5, 0.1, params={STRATEGY: "uniform", RATE: base_rate}),  # the baseline itself
        make_record(1, 0.4, 0.1, params={STRATEGY: "uniform", RATE: 1e-3}),
        make_record(2, 0.45, 0.1, params={STRATEGY: "uniform", RATE: 3e-3}),
        make_record(3, 0.35, 0.1, params={STRATEGY: "feedback"}),
        make_record(4, 0.2, 0.1, params={STRATEGY: "waterfill"}),
        make_record(5, 0.21, 0.1, params={STRATEGY: "balanced"}),
        make_record(6, 0.22, 0.1, params={STRATEGY: "variance"}),
        make_record(7, 0.11, 0.1, params={STRATEGY: "information"}, guards={"fvu_worst": 0.1}),
        make_record(8, 0.19, 0.1, params={STRATEGY: "waterfill"}),  # the same as 4
    ]
    assert arms(context, records) == ["trial-8", "trial-5", "trial-3", "trial-1"]


def test_plain_feedback_takes_part_where_no_trial_is_it_and_even_where_nothing_is_feasible(context, make_record):
    broken = make_record(1, 0.4, 0.1, params={STRATEGY: "waterfill"}, guards={"bits": 1.0})
    assert arms(context, [broken]) == ["plain-feedback"]
    diverged = make_record(0, state="diverged", params={STRATEGY: "feedback"})
    assert arms(context, [diverged, broken]) == ["plain-feedback"]


def test_who_was_a_finalist_stays_one(context, make_record):
    records = [
        make_record(number, 0.5 - number / 100, 0.1, params={STRATEGY: strategy})
        for number, strategy in enumerate(("balanced", "waterfill", "variance", "feedback"))
    ]
    assert "trial-0" not in arms(context, records)
    write_records(context.folder.records("final"), [make_record(0, phase="final", arm="trial-0")])
    assert arms(context, records)[-1] == "trial-0"


def test_a_control_has_the_same_training_and_uniform_ratios_and_equal_ones_are_shared(context, make_record):
    faster = {RATE: 1e-3, "compression.sharpness": 2.0}
    records = [
        make_record(3, 0.3, 0.1, params={STRATEGY: "waterfill", **faster}),
        make_record(4, 0.31, 0.1, params={STRATEGY: "balanced", RATE: 1e-3}),
        make_record(5, 0.4, 0.1, params={STRATEGY: "feedback"}),
        make_record(6, 0.45, 0.1, params={STRATEGY: "uniform", RATE: 2e-3}),
    ]
    trained, controls = arms_and_controls(context, choose_finalists(context, searched(*records)))
    assert controls == {
        "trial-3": "control-3",
        "trial-4": "control-3",
        "trial-5": "baseline",
        "trial-6": "trial-6",
    }
    assert trained["control-3"] == context.uniform.with_overrides({RATE: 1e-3})
    assert list(trained) == ["baseline", "trial-3", "trial-4", "trial-5", "trial-6", "control-3"]
    assert matched_control(context.base, context.base) == context.uniform


def test_a_shared_control_keeps_its_name_when_a_better_trial_comes_to_share_it(context, make_record):
    records = [make_record(3, 0.3, 0.1, params={STRATEGY: "waterfill", RATE: 1e-3})]
    before, _ = arms_and_controls(context, choose_finalists(context, searched(*records)))
    records.append(make_record(8, 0.2, 0.1, params={STRATEGY: "balanced", RATE: 1e-3}))
    finalists = choose_finalists(context, searched(*records))
    assert [each.arm for each in finalists] == ["trial-8", "trial-3", "plain-feedback"]
    after, controls = arms_and_controls(context, finalists)
    assert controls == {"trial-8": "control-3", "trial-3": "control-3", "plain-feedback": "baseline"}
    assert after["control-3"] == before["control-3"]


@pytest.mark.parametrize(
    "unread_by_uniform_ratios",
    [
        {"compression.max_codebooks": 2},
        {"compression.capacity": "latent"},
        {"compression.bounds.L0.span": 8.0, "compression.sharpness": 2.0},
        {"quantizer.fsq_levels": 5, "model.shared_hidden": 64},
    ],
)
def test_a_control_that_trains_as_the_baseline_is_the_baseline(context, make_record, unread_by_uniform_ratios):
    record = make_record(3, 0.3, 0.1, params={STRATEGY: "balanced", **unread_by_uniform_ratios})
    assert matched_control(context.trial(record), context.base) == context.uniform
    trained, controls = arms_and_controls(context, choose_finalists(context, searched(record)))
    assert set(controls.values()) == {"baseline"}
    assert list(trained) == ["baseline", "trial-3", "plain-feedback"]


def test_trials_that_differ_in_what_nothing_reads_are_one_finalist(context, make_record):
    unread = {"compression.sharpness": 2.0, "quantizer.fsq_levels": 5}
    records = [
        make_record(0, 0.30, 0.1, params={STRATEGY: "feedback", **unread}),
        make_record(1, 0.31, 0.1, params={STRATEGY: "waterfill", "compression.rule": "graded"}),
        make_record(2, 0.32, 0.1, params={STRATEGY: "waterfill", "compression.rule": "spinlock"}),
        make_record(3, 0.5, 0.1, params={STRATEGY: "uniform", **unread}),
    ]
    assert arms(context, records) == ["trial-0", "trial-1"]
    diverged = make_record(0, 0.30, 0.1, params={STRATEGY: "feedback", **unread}, guards={"fvu_worst": 0.1})
    assert arms(context, [diverged, *records[1:]]) == ["trial-1", "trial-0"], "it is plain feedback"


def test_controls_that_an_earlier_version_trained_belong_to_the_study(context):
    """Those kept of a trial what uniform ratios do not read."""
    params = {
        STRATEGY: "balanced",
        "compression.rule": "graded",
        "compression.capacity": "codes",
        "compression.bounds.L0.low": 0.2,
        "compression.max_codebooks": 2,
        RATE: 2e-3,
    }
    trial = context.trial(SimpleNamespace(params=params))
    ours, theirs = (training_identity(config, "data") for config in controls_of(trial, context.base))
    assert ours == training_identity(matched_control(trial, context.base), "data")
    assert theirs == "b864e3b0a5663de9f7d52176d43f8dbbdd1b6428600c5b79de42449b36376161"  # as commit 159c068 had it


def test_a_uniform_finalist_is_the_control_of_whoever_trains_like_it(context, make_record):
    records = [
        make_record(3, 0.3, 0.1, params={STRATEGY: "waterfill", RATE: 1e-3}),
        make_record(4, 0.45, 0.1, params={STRATEGY: "uniform", RATE: 1e-3}),
    ]
    _, controls = arms_and_controls(context, choose_finalists(context, searched(*records)))
    assert controls["trial-3"] == "trial-4"


class Study(StudyEvents):
    """What of a study its finals act on: it trains at once, the given score an arm, and notes what is told."""

    def __init__(self, folder: StudyFolder, make: Any, scores: dict[str, tuple[float, float]], last: int | None = None):
        self.folder, self.events, self.folds = folder, self, 3
        self.data = SimpleNamespace(fold=lambda number: number)
        self.make, self.scores, self.left = make, scores, last
        self.lines: list[str] = []
        self.progress: list[tuple[int, int]] = []

    def on_message(self, text: str) -> None:
        self.lines.append(text)

    def on_phase_progress(self, done: int, total: int) -> None:
        self.progress.append((done, total))

    def phase(self, start: PhaseStart) -> Any:
        self.progress.append((start.done, start.total or 0))
        return nullcontext()

    def trained(self, trainings: Any) -> Iterator[TrialRecord]:
        for each in trainings:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            yield self.make(each.number, each.arm, self.scores[each.arm])


@pytest.fixture
def finals_of(monkeypatch, tmp_path, context, make_record, make_metrics):
    """Return a function that begins or resumes finals, for `last` trainings or to their end."""
    monkeypatch.setattr("study.phases.finals.ray.put", lambda data: data)
    scores = {"baseline": (0.5, 0.1), "trial-1": (0.3, 0.1)}
    terms = Terms(controls={"trial-1": "baseline"}, overlap=0.0, first=2, last=6)

    def make(number: int, arm: str, score: tuple[float, float]) -> TrialRecord:
        noise = 1 + (number + len(arm)) % 3 / 2
        test = make_metrics(score[0] * noise, score[1], split="test")
        return make_record(number, phase="final", arm=arm, test=test)

    def begin(last: int | None = None) -> Study:
        study = Study(StudyFolder(tmp_path), make, scores, last)
        finals = Finals(study, dict.fromkeys(scores, context.uniform), terms)  # type: ignore[arg-type]
        with suppress(KeyboardInterrupt):
            finals.run()
        return study

    return begin


def replicates(lines: Sequence[str]) -> list[int]:
    return [
        int(found[1]) for line in lines if (found := re.match(r"  (\d+): baseline [\d.]+x   trial 1 [\d.]+x$", line))
    ]


def test_every_replicate_has_a_line_as_soon_as_all_its_arms_are_trained(finals_of):
    study = finals_of()
    assert replicates(study.lines) == [1, 2, 3, 4, 5, 6]
    assert study.progress[0] == (0, 4) and study.progress[-1] == (12, 12)


@pytest.mark.parametrize("last", range(1, 12))
def test_interrupted_anywhere_every_replicate_has_its_line_in_the_first_run_or_the_next(finals_of, last):
    first = finals_of(last)
    assert replicates(first.lines) == list(range(1, last // 2 + 1))
    second = finals_of()
    assert replicates(second.lines) == [1, 2, 3, 4, 5, 6]
    assert second.progress[0][0] == last


def test_what_was_trained_of_arms_that_take_no_part_any_more_is_kept(finals_of, tmp_path, make_record):
    path = StudyFolder(tmp_path).records("final")
    earlier = [make_record(number, phase="final", arm="plain-feedback") for number in range(2)]
    write_records(path, earlier)
    study = finals_of()
    assert study.progress[0] == (0, 4) and study.progress[-1] == (12, 12)
    assert [(each.arm, each.number) for each in read_records(path) if each.arm not in ("baseline", "trial-1")] == [
        ("plain-feedback", 0),
        ("plain-feedback", 1),
    ]
    assert len(read_records(path)) == 14


def test_only_who_is_not_decided_gets_more_replicates(context, make_record, make_metrics):
    terms = Terms(controls={"trial-1": "control-1", "trial-2": "baseline"}, overlap=0.0, first=2, last=5)
    trained = dict.fromkeys(("baseline", "trial-1", "control-1", "trial-2"), context.uniform)
    finals = Finals(context, trained, terms)
    assert finals._missing([]) == [(arm, number) for number in range(2) for arm in (*list(trained)[:3], "trial-2")]
    scores = {"baseline": (0.5, 0.5), "control-1": (0.5, 0.5), "trial-1": (0.3, 0.3), "trial-2": (0.3, 0.7)}
    records = [
        make_record(number, phase="final", arm=arm, test=make_metrics(worst, 0.1, split="test"))
        for arm, each in scores.items()
        for number, worst in enumerate(each)
    ]
    assert finals._missing(records) == [(arm, number) for number in (2, 3, 4) for arm in ("baseline", "trial-2")]
    assert finals._missing(records[:-1]) == [("trial-2", 1)]


def test_terms_follow_the_settings(context):
    terms = terms_of(
        StudyConfig(name="s", finals={"replicates": 2, "margins": {"worst": 0.1}}), {"trial-1": "baseline"}
    )
    assert (terms.first, terms.last) == (2, 2)
    assert terms.limits == {"fvu_worst": 1.1, "fvu_mean": 1.05}
    assert terms.overlap == pytest.approx(0.3 / (0.7 * 2 / 3))  # test rows / training rows, of three folds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tournament": True, "warm_start": ["earlier"]}, "the same trials and no others"),
        ({"finals": {"replicates": 1}}, "greater than or equal to 2"),
        ({"finals": {"data": "simulations"}}, "finals.data"),
    ],
)
def test_finals_that_cannot_be_held_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(StudyConfig, {"name": "s", **given}, "test")


def test_settings_of_an_earlier_version_that_said_what_all_finals_are_now_are_read():
    given = {"name": "s", "finals": {"top": 1, "replicates": 6, "data": "splits", "categories": "kept"}}
    assert parse_config(StudyConfig, given, "test").finals.top == 1


def test_ctrl_c_is_heeded_again_after_the_search():
    before = signal.getsignal(signal.SIGINT)
    with signals_given_back():
        signal.signal(signal.SIGINT, lambda *_: None)  # as Tune does, which leaves it so
    assert signal.getsignal(signal.SIGINT) is before
