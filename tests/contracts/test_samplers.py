"""One contract, every sampler: whatever becomes of its trials, Optuna is told all of it, and a resumed study goes on.

The real searcher on a real journal; what Ray Tune does is played by `play`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from results.records.optuna_distributions import suggest
from results.records.optuna_trials import DIVERGED, finished_trials, read_search
from results.records.trial_record import TrialRecord
from search_spaces import Categorical, Float, Int, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.record import Metrics
from study.cluster.resources import Resources
from study.config import SAMPLERS, GuardsConfig, StudyConfig
from study.events import StudyEvents
from study.samplers.build import check_sampler, make_sampler, study_prior
from study.samplers.recorded_prior import NEWEST
from study.search.constraints import COUNT, Baseline, guards
from study.search.initial_trials import initial_points
from study.search.searcher import AskTellSearcher, SearchPlan
from study.search.storage import open_journal, release


def space() -> SearchSpace:
    """A space with settings that contradict each other: a low bound above 1, which is the high one."""
    parameters = {
        "compression.strategy": Categorical(choices=("uniform", "balanced", "feedback")),
        "compression.rule": Categorical(choices=("graded", "spinlock"), when={"compression.strategy": ("balanced",)}),
        "compression.feedback.risk": Float(low=0.2, high=1.0, when={"compression.strategy": ("feedback",)}),
        "compression.sharpness": Float(low=0.5, high=2.0),
        "compression.bounds.L0.low": Float(low=0.6, high=1.1),
        "model.hidden": Int(low=8, high=32, step=8),
    }
    return SearchSpace(name="test", description="", parameters=parameters)


@dataclass(frozen=True)
class Setup:
    """A sampler, what it is asked for, and a space that it can search."""

    sampler: str
    objective: str
    space: SearchSpace

    @property
    def trials(self) -> int:
        """Enough to have learned something: most begin after 10 trials told, NSGA after 20 complete ones.

        GP takes seconds for a suggestion; `tests/unit/test_sampler.py` asks it for one of each kind.
        """
        return {"nsga2": 36, "gp": 12}.get(self.sampler, 18)

    @property
    def config(self) -> StudyConfig:
        """With a seed that meets settings which contradict each other in every setup."""
        return StudyConfig(name="test", sampler=self.sampler, objective=self.objective, seed=3, prior=NEWEST)


SETUPS = [
    *(Setup(sampler, "single", space()) for sampler in ("tpe", "composite", "gp", "random", "qmc")),
    *(Setup(sampler, "pareto", space()) for sampler in ("tpe", "gp", "nsga2", "random", "qmc")),
]


@pytest.fixture(params=SETUPS, ids=lambda setup: f"{setup.sampler} {setup.objective}")
def setup(request: pytest.FixtureRequest) -> Setup:
    return request.param


class Player:
    """Runs trials as Ray Tune would, two at a time, to ends of every kind."""

    def __init__(self, setup: Setup, journal: Path, make_metrics: Callable[..., Metrics]):
        self.setup, self.journal, self.make_metrics = setup, journal, make_metrics
        self.baseline = make_metrics(0.5, 0.1)
        self.ended = 0

    def open(self) -> optuna.Study:
        study = open_journal(self.journal, "test", COUNT[self.setup.objective])
        study.sampler = self.sampler()
        release(study, "driver lost", "")
        return study

    def sampler(self) -> BaseSampler:
        return make_sampler(self.setup.config, prior=study_prior(self.setup.config, self.setup.space))

    def play(self, study: optuna.Study, trials: int, batch: int | None = None) -> list[TrialRecord]:
        plan = SearchPlan(
            space=self.setup.space,
            base=TrialConfig(),
            target=trials,
            baseline=Baseline(self.baseline),
            guards=GuardsConfig(),
            resources=Resources(concurrent=2, cpus=1, gpus=0),
            batch=batch,
        )
        ended: list[TrialRecord] = []
        events = StudyEvents()
        events.on_trial_end = ended.append  # type: ignore[method-assign]
        searcher = AskTellSearcher(study, plan, events)
        running: list[tuple[str, dict]] = []
        for index in range(1000):
            given = searcher.suggest(str(index)) if len(running) < 2 else None
            if isinstance(given, dict):
                running.append((str(index), given))
            elif running:
                self.finish(searcher, *running.pop(0))
            elif given == Searcher.FINISHED:
                return ended
        raise AssertionError("the searcher never said that it has finished")

    def finish(self, searcher: AskTellSearcher, name: str, given: dict) -> None:
        [member] = given["members"]
        number, config = member["number"], TrialConfig.model_validate_json(member["config"])
        kind = number % 8
        if kind == 5:
            return searcher.on_trial_complete(name, self.failure(number, "non-finite"))
        searcher.on_trial_result(name, self.report(number, config, 5))
        if kind == 6 and self.setup.objective == "single":  # the scheduler stops it; there is none for a front
            return searcher.on_trial_complete(name, self.report(number, config, 10))
        if kind == 4 and given["attempt"] == 1:
            searcher.on_trial_complete(name, None, error=True)
            return searcher.on_death(name, "its process died")
        if kind == 7:
            return searcher.on_trial_complete(name, self.failure(number, "exception"))
        return searcher.on_trial_complete(name, self.report(number, config, 15, "complete"))

    @staticmethod
    def failure(number: int, kind: str) -> dict:
        failed = {"number": number, "status": "failed", "kind": kind, "reason": "epoch 3", "seconds": 1.0, "own": True}
        return {"reports": [failed], "stopped": []}

    def report(self, number: int, config: TrialConfig, epoch: int, status: str = "running") -> dict:
        """The higher the sharpness, the lower the imbalance; above 1.2 by way of a worse worst category."""
        sharpness, hidden = config.compression.sharpness, config.model.hidden
        worst = (0.45 if sharpness < 1.2 else 0.55) + 0.5 / epoch**2
        metrics = self.make_metrics(worst, 0.05 + 0.02 * sharpness, utilization=0.9 + 0.002 * hidden)
        said = {
            "number": number,
            "epoch": epoch,
            "trained": epoch,
            "fvu_worst": metrics.fvu_worst,
            "seconds": 1.0,
            "status": status,
            "curve": json.dumps({"epoch": epoch, "seconds": 1.0, **metrics.scalars()}),
            "metrics": json.dumps(metrics.__dict__),
        }
        return {"reports": [said], "stopped": []}


@pytest.fixture
def player(setup: Setup, tmp_path: Path, make_metrics: Callable[..., Metrics]) -> Player:
    return Player(setup, tmp_path / "optuna.journal", make_metrics)


def check_told(trial: FrozenTrial, record: TrialRecord, setup: Setup) -> None:
    """Assert that Optuna knows of a trial what its record says."""
    single = setup.objective == "single"
    assert trial.state == {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(
        record.state, TrialState.PRUNED
    )
    assert all(setup.space.counts(name, trial.params) == (name in trial.params) for name in setup.space.parameters)
    assert trial.constraints[DIVERGED] == (record.state in ("diverged", "refused"))
    if record.metrics is None:
        assert record.state != "complete"
        assert record.reason
    else:
        assert set(trial.constraints) == {DIVERGED, *guards(record.metrics, Baseline(record.metrics), GuardsConfig())}
    expected = {"complete": [5, 15], "pruned": [5, 10]}.get(record.state)
    if expected and single:
        assert list(trial.intermediate_values) == expected
    if record.state == "complete":
        assert len(trial.values) == (1 if single else 3)


def test_everything_is_told_and_a_resumed_study_goes_on(player: Player, setup: Setup) -> None:
    check_sampler(setup.config)
    study = player.open()
    for point in initial_points(setup.space, TrialConfig()):
        study.enqueue_trial(point)
    told = player.play(study, setup.trials)
    left_behind = suggest(study.ask(), setup.space)  # a driver that is killed leaves it running

    study = player.open()
    records = read_search(study)
    assert records == sorted(told, key=lambda record: record.number)
    assert len(records) == setup.trials
    again = player.play(study, setup.trials + 4)
    records = read_search(study)
    assert records[: setup.trials] == sorted(told, key=lambda record: record.number)
    assert sorted(record.number for record in again) == [record.number for record in records[setup.trials :]]

    assert left_behind in [record.params for record in records[setup.trials :]]
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    for trial, record in zip(finished_trials(study), records, strict=True):
        check_told(trial, record, setup)
    assert {record.state for record in records} >= {"complete", "diverged", "failed", "refused"} | (
        {"pruned"} if setup.objective == "single" else set()
    )
    params = [json.dumps(record.params) for record in records]
    assert len(set(params)) >= setup.trials  # the initial trials of a space with few parameters may be met again
    best = study.best_trials if setup.objective == "pareto" else [study.best_trial]
    assert best
    assert all(max(trial.constraints.values()) <= 0 for trial in best)


def test_the_same_seed_asks_for_the_same_trials(setup: Setup, tmp_path: Path, make_metrics: Callable) -> None:
    asked = []
    for _ in range(2):
        study = optuna.create_study(directions=["minimize"] * COUNT[setup.objective])
        player = Player(setup, tmp_path, make_metrics)
        study.sampler = player.sampler()
        told = player.play(study, setup.trials)
        asked.append([(record.number, record.params) for record in told])
    assert asked[0] == asked[1]


def test_a_deterministic_study_killed_at_any_write_ends_as_one_undisturbed(
    player: Player, setup: Setup, tmp_path: Path
) -> None:
    deterministic = setup.config.model_copy(update={"deterministic": True})
    if not SAMPLERS[setup.sampler].stateless:
        with pytest.raises(ConfigError, match="--deterministic cannot restore"):
            check_sampler(deterministic)
        return
    player.play(player.open(), setup.trials, batch=5)
    written = player.journal.read_bytes()
    expected = [(record.number, record.params, record.state) for record in read_search(player.open())]
    for part in (0.55, 0.83):
        player.journal.write_bytes(written[: int(part * len(written))])
        player.play(player.open(), setup.trials, batch=5)
        assert [(record.number, record.params, record.state) for record in read_search(player.open())] == expected
