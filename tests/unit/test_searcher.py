"""The searcher against real Optuna storage."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from results.records.optuna_trials import attempts_at, finished_trials, read_journal, read_search
from results.records.trial_record import TrialRecord
from search_spaces import Categorical, Float, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import Metrics
from study.cluster.resources import Resources
from study.config import GuardsConfig, StoppingConfig, StudyConfig
from study.events import StudyEvents
from study.samplers.build import make_sampler
from study.search.constraints import Baseline
from study.search.schedulers import PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan, StopWhenGivenUp
from study.search.storage import open_journal, release, repair
from study.search.warm_start import PriorTrials, add_baseline

SPACE = SearchSpace(
    name="test",
    description="",
    parameters={
        "compression.sharpness": Float(low=0.5, high=2.0),
        "compression.rule": Categorical(choices=("graded", "spinlock")),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.fixture
def study(path: Path) -> optuna.Study:
    return reopen(path)


def reopen(path: Path) -> optuna.Study:
    """What a driver does when it starts."""
    study = open_journal(path, "test")
    study.sampler = make_sampler(StudyConfig(name="test"))
    return study


@pytest.fixture
def make_searcher(study, make_metrics) -> Callable[..., AskTellSearcher]:
    return partial(build_searcher, study=study, baseline=Baseline(make_metrics(0.5, 0.1)))


def build_searcher(
    *,
    study: optuna.Study,
    events: StudyEvents | None = None,
    stop_reason: Callable[[], str | None] = lambda: None,
    **given,
) -> AskTellSearcher:
    resources = Resources(concurrent=2, cpus=1, gpus=0, node_cpus=4)
    usual = {"space": SPACE, "base": TrialConfig(seed=7), "target": 10, "guards": GuardsConfig()}
    return AskTellSearcher(study, SearchPlan(resources=resources, **{**usual, **given}), events, stop_reason)


class Noted(StudyEvents):
    """Notes every event of a search."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.ended: list[TrialRecord] = []
        self.batches: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_trial_end(self, record: TrialRecord) -> None:
        self.ended.append(record)

    def on_batch_end(self, name: str) -> None:
        self.batches.append(name)


def result(*reports: dict, stopped: Sequence[int] = ()) -> dict:
    """What a worker tells Tune of the trials in its trial batch."""
    return {"reports": list(reports), "stopped": list(stopped), "hostname": "here"}


def report(metrics: Metrics, epoch: int, status: str = "running", number: int = 0, start: int = 0) -> dict:
    return result(member_report(metrics, epoch, status, number, start))


def member_report(metrics: Metrics, epoch: int, status: str = "running", number: int = 0, start: int = 0) -> dict:
    row = {"epoch": epoch, "trained": epoch, "seconds": float(epoch), **metrics.scalars()}
    return {
        "number": number,
        "epoch": epoch,
        "trained": epoch,
        "fvu_worst": metrics.fvu_worst,
        "seconds": float(epoch),
        "status": status,
        "start": start,
        "notice": "",
        "curve": json.dumps(row),
        "metrics": json.dumps(metrics.__dict__),
    }


def test_a_suggestion_is_a_whole_config_and_its_number(make_searcher):
    given = make_searcher().suggest("a")
    [member] = given["members"]
    config = TrialConfig.model_validate_json(member["config"])
    assert (given["trial_batch"], member["number"]) == ("trial-0000", 0)
    assert 0.5 <= config.compression.sharpness <= 2.0
    assert config.seed == 7


def test_a_complete_trial_is_told_with_value_curve_guards_and_metrics(make_searcher, make_metrics, path):
    searcher = make_searcher(events=(noted := Noted()))
    searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.6, 0.1), 5))
    last = report(make_metrics(0.4, 0.1), 10, "complete")
    searcher.on_trial_result("a", last)
    searcher.on_trial_complete("a", {**last, "done": True})  # Tune repeats the last result
    [record] = read_search(read_journal(path))
    assert noted.ended == read_search(read_journal(path)), "told with its curve, as trackers need it"
    assert (record.state, record.epochs, record.seed, record.node) == ("complete", 10, 7, "here")
    assert record.feasible
    assert record.metrics == make_metrics(0.4, 0.1)
    assert [row["epoch"] for row in record.curve] == [5, 10]
    [trial] = read_journal(path).trials
    assert trial.value == pytest.approx(make_metrics(0.4, 0.1).log10_imbalance)
    assert trial.intermediate_values == {5: 0.6, 10: 0.4}


def test_a_trial_is_few_lines_of_the_journal(make_searcher, make_metrics, path, study):
    """One when it is asked for, one a report, one a constraint, one for what became of it, and its value."""
    searcher = make_searcher()
    before = path.read_bytes().count(b"\n")
    searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.4, 0.1), 5))
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 15, "complete"))
    [trial] = study.trials
    assert path.read_bytes().count(b"\n") - before == 1 + 2 + len(trial.constraints) + 1 + 1
    assert [(attempt.ended, attempt.epochs) for attempt in attempts_at(trial)] == [(True, 15)]


def test_a_trial_stopped_by_the_scheduler_is_pruned_with_its_last_report(make_searcher, make_metrics, study):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.9, 0.1), 5))
    searcher.on_trial_complete("a", report(make_metrics(0.8, 0.1), 10))  # the stopping report comes only here
    [trial] = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {5: 0.9, 10: 0.8}
    assert read_search(study)[0].state == "pruned"
    assert not read_search(study)[0].feasible


def failure(kind: str, reason: str = "epoch 3", number: int = 0) -> dict:
    return result(member_failure(kind, reason, number))


def member_failure(kind: str, reason: str = "epoch 3", number: int = 0, own: bool = False) -> dict:
    return {"number": number, "status": "failed", "kind": kind, "reason": reason, "seconds": 1.0, "own": own}


@pytest.mark.parametrize(("kind", "state"), [("non-finite", "diverged"), ("refused", "refused")])
def test_a_trial_without_a_score_is_infeasible_so_that_the_sampler_keeps_away(make_searcher, study, kind, state):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", failure(kind))
    [trial] = study.trials
    assert trial.state == TrialState.PRUNED
    assert max(trial.constraints.values()) > 0
    [record] = read_search(study)
    assert (record.state, record.kind, record.reason) == (state, kind, "epoch 3")


def test_a_bug_is_not_tried_again(make_searcher, study):
    searcher = make_searcher(target=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", failure("exception", "ZeroDivisionError: x"))
    assert study.trials[0].state == TrialState.FAIL
    assert (read_search(study)[0].kind, read_search(study)[0].reason) == ("exception", "ZeroDivisionError: x")
    assert searcher.suggest("b") == Searcher.FINISHED


def test_a_collapsed_trial_is_named_and_never_feasible(make_searcher, make_metrics, study):
    searcher = make_searcher()
    for number, metrics in enumerate((make_metrics(0.4, 0.1, utilization=0.2), make_metrics(0.4, 0.1))):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), report(metrics, 10, "complete", number))
    assert [record.kind for record in read_search(study)] == ["collapsed codebook", ""]
    assert [record.feasible for record in read_search(study)] == [False, True]


# ---------------------------------------------------------------- attempts

DIED = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
NODE = "The actor died because its node has died. Node Id: 0a1b"


def die(searcher: AskTellSearcher, name: str, text: str) -> None:
    """What Tune says of a process that died: first to the searcher, then to callbacks."""
    searcher.on_trial_complete(name, None, error=True)
    searcher.on_death(name, text)


def test_a_dead_process_is_replaced_under_the_same_number_until_it_gets_no_further(make_searcher, make_metrics, study):
    searcher = make_searcher(target=1, events=(noted := Noted()))
    first = searcher.suggest("0")
    for attempt in range(1, 4):
        assert searcher.suggest("another") is None  # whether there is one is open until this one ends
        die(searcher, str(attempt - 1), DIED)
        if attempt < 3:
            again = searcher.suggest(str(attempt))
            assert (again["members"], again["attempt"]) == (first["members"], attempt + 1)
    assert searcher.suggest("next") == Searcher.FINISHED
    [record] = read_search(study)
    assert study.trials[0].state == TrialState.FAIL
    assert (record.state, record.kind, len(record.attempts)) == ("failed", "worker lost", 3)
    assert "its process died" in record.reason
    assert noted.messages == ["trial 0: its process died: killed, out of memory, or crashed; tried again"] * 2


def test_a_process_that_gets_further_each_time_is_not_charged(make_searcher, make_metrics, study):
    searcher = make_searcher(target=1)
    for attempt in range(8):
        searcher.suggest(str(attempt))
        searcher.on_trial_result(str(attempt), report(make_metrics(0.4, 0.1), attempt + 1))
        die(searcher, str(attempt), DIED)
    searcher.suggest("last")
    searcher.on_trial_complete("last", report(make_metrics(0.4, 0.1), 10, "complete", start=8))
    [record] = read_search(study)
    assert (record.state, record.kind, len(record.attempts)) == ("complete", "", 9)
    assert [attempt.epochs for attempt in record.attempts] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert record.attempts[-1].start == 8
    assert record.attempts[0].kind == "worker lost"


def test_a_lost_node_is_never_charged(make_searcher, make_metrics, study):
    searcher = make_searcher(target=1)
    for attempt in range(12):
        assert searcher.suggest(str(attempt))["resources"]["CPU"] == 1
        die(searcher, str(attempt), NODE)
    searcher.suggest("last")
    searcher.on_trial_complete("last", report(make_metrics(0.4, 0.1), 10, "complete"))
    assert [attempt.kind for attempt in read_search(study)[0].attempts] == ["node lost"] * 12 + [""]


def test_out_of_memory_is_tried_with_twice_the_room_until_there_is_no_more(make_searcher, study):
    searcher = make_searcher(target=1)
    room = []
    for attempt in range(3):
        room.append(searcher.suggest(str(attempt))["resources"]["CPU"])
        searcher.on_trial_complete(str(attempt), failure("out of memory", "MemoryError: no"))
    assert room == [1, 2, 4]  # the node has four
    assert searcher.suggest("next") == Searcher.FINISHED
    [record] = read_search(study)
    assert (record.kind, record.reason) == ("out of memory", "MemoryError: no (3 attempts)")


def test_memory_is_suspected_where_a_process_dies_twice_at_the_same_place(make_searcher):
    searcher = make_searcher(target=1)
    room = []
    for attempt in range(3):
        room.append(searcher.suggest(str(attempt))["resources"]["CPU"])
        die(searcher, str(attempt), DIED)
    assert room == [1, 1, 2]


def test_a_full_disk_ends_the_search_and_charges_no_trial(make_searcher, study):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", failure("storage", "OSError: [Errno 28] No space left on device"))
    assert searcher.suggest("b") == Searcher.FINISHED
    assert "No space left" in (searcher.failure or "")
    assert StopWhenGivenUp(searcher).stop_all()
    assert finished_trials(study) == []
    release(study, "interrupted", "")
    assert make_searcher().suggest("a")["trial_batch"] == "trial-0000"


def test_an_infeasible_trial_is_never_best(make_searcher, make_metrics, study):
    searcher = make_searcher()
    for number, fvu in enumerate(((0.5, 0.4), (0.45, 0.1))):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), report(make_metrics(*fvu), 10, "complete", number))
    assert study.best_trial.number == 1
    assert [record.feasible for record in searcher.records()] == [False, True]


def test_no_more_trials_are_asked_for_than_wanted(make_searcher, make_metrics):
    searcher = make_searcher(target=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None  # one of the two may have to be tried again
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 10, "complete"))
    searcher.on_trial_complete("b", report(make_metrics(0.4, 0.1), 10, "complete", number=1))
    assert searcher.suggest("c") == Searcher.FINISHED


def test_a_limit_ends_the_asking_and_leaves_what_runs(make_searcher, make_metrics):
    reason: list[str | None] = [None]
    searcher = make_searcher(stop_reason=lambda: reason[0])
    assert isinstance(searcher.suggest("a"), dict)
    reason[0] = "enough"
    assert searcher.suggest("b") is None  # until a has ended
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 10, "complete"))
    assert searcher.suggest("b") == Searcher.FINISHED
    assert (searcher.ended, searcher.failure) == ("enough", None)
    assert [record.state for record in searcher.records()] == ["complete"]


def test_settings_that_contradict_each_other_are_told_and_not_run(make_searcher, study):
    space = SearchSpace(
        name="bad",
        description="",
        parameters={"compression.bounds.L0.low": Float(low=1.5, high=2.0)},  # above the default high of 1
    )
    searcher = make_searcher(target=3, space=space)
    assert searcher.suggest("a") == Searcher.FINISHED
    assert [record.state for record in read_search(study)] == ["refused"] * 3


def test_a_search_in_which_most_trials_fail_is_given_up_with_the_commonest_error(make_searcher, make_metrics):
    searcher = make_searcher(target=20)
    for index in range(4):
        searcher.suggest(f"good {index}")
        searcher.on_trial_complete(f"good {index}", report(make_metrics(0.4, 0.1), 10, "complete", index))
    reasons = ["OSError: trial 4", "OSError: trial 5", "KeyError: y", "OSError: trial 7", "OSError: trial 8"]
    for index, reason in enumerate(reasons):
        assert searcher.failure is None
        searcher.suggest(f"bad {index}")
        searcher.on_trial_complete(f"bad {index}", failure("exception", reason, 4 + index))
    expected = "5 of the last 9 trials failed, 4 of them because: OSError: trial 4"
    assert searcher.failure == expected
    assert searcher.suggest("next") == Searcher.FINISHED


def test_three_failures_at_the_start_are_enough(make_searcher):
    searcher = make_searcher()
    for index in range(3):
        searcher.suggest(str(index))
        searcher.on_trial_complete(str(index), failure("exception", "KeyError: y", index))
    assert searcher.failure == "3 of the last 3 trials failed, all because: KeyError: y"


def test_a_trial_that_lost_its_driver_goes_on_under_its_own_number(make_searcher, make_metrics, path, study):
    searcher = make_searcher()
    first = searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.4, 0.1), 5))
    study = reopen(path)  # the driver is killed, and another takes over
    assert release(study, "driver lost", "the driver was lost") == 1
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]
    again = make_searcher(study=study).suggest("a")
    assert (again["members"], again["attempt"]) == (first["members"], 2)
    [attempt, running] = attempts_at(study.trials[0])
    assert (attempt.kind, attempt.epochs, attempt.ended, running.ended) == ("driver lost", 5, True, False)


def test_a_trial_that_takes_the_driver_with_it_is_given_up_in_the_end(make_searcher, path, study):
    for attempt in range(5):
        assert make_searcher(study=study, target=1).suggest("a")["attempt"] == attempt + 1
        study = reopen(path)
        release(study, "driver lost", "the driver was lost")
    assert make_searcher(study=study, target=1).suggest("a") == Searcher.FINISHED
    assert [(record.state, record.kind) for record in read_search(study)] == [("failed", "driver lost")]


def test_interruptions_are_not_charged(make_searcher, path, study):
    for _ in range(8):
        assert make_searcher(study=study).suggest("a")["trial_batch"] == "trial-0000"
        release(study, "interrupted", "the study was stopped")
        study = reopen(path)
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


# ---------------------------------------------------------------- room


def test_as_many_trials_run_as_there_is_room_for_now(make_searcher, make_metrics, study):
    room = [2]
    searcher = make_searcher(slots=lambda: room[0], target=4)
    assert [searcher.suggest(name)["trial_batch"] for name in "ab"] == ["trial-0000", "trial-0001"]
    assert searcher.suggest("c") is None
    assert len(study.trials) == 2  # nothing is asked for before it can run: it could not learn from what ends meanwhile
    room[0] = 3  # a node has joined
    assert searcher.suggest("c")["trial_batch"] == "trial-0002"
    assert searcher.suggest("d") is None
    room[0] = 1  # two have left
    last = report(make_metrics(0.4, 0.1), 10, "complete")
    searcher.on_trial_complete("a", last)
    assert searcher.suggest("d") is None
    assert not searcher.over


# ---------------------------------------------------------------- trial batches


def numbers(given) -> list[int]:
    return [member["number"] for member in given["members"]]


def test_trials_are_asked_for_at_once_and_each_is_told_its_own_outcome(make_searcher, make_metrics, study):
    searcher = make_searcher(members=lambda: 4, target=4, events=(noted := Noted()))
    given = searcher.suggest("a")
    assert (given["trial_batch"], numbers(given)) == ("batch-0000", [0, 1, 2, 3])
    assert searcher.suggest("b") is None
    at_5 = [member_report(make_metrics(0.5 + number / 10, 0.1), 5, number=number) for number in range(4)]
    searcher.on_trial_result("a", result(*at_5))
    at_10 = [member_report(make_metrics(0.4, 0.1), 10, number=number) for number in (0, 1, 2)]
    searcher.on_trial_result("a", result(*at_10, stopped=[3]))
    assert [record.number for record in read_search(study)] == [3]  # told while the others go on
    last = [member_report(make_metrics(0.3, 0.1), 15, "complete", number) for number in (0, 2)]
    last.append(member_failure("non-finite", number=1, own=True))
    searcher.on_trial_complete("a", result(*last, stopped=[3]))
    assert [record.state for record in read_search(study)] == ["complete", "diverged", "complete", "pruned"]
    assert [[row["epoch"] for row in record.curve] for record in read_search(study)] == [
        [5, 10, 15],
        [5, 10],
        [5, 10, 15],
        [5],
    ]
    assert {attempt.trial_batch for record in read_search(study) for attempt in record.attempts} == {"batch-0000"}
    assert noted.batches == ["batch-0000"]
    assert searcher.suggest("b") == Searcher.FINISHED


def test_what_cannot_train_in_lock_step_comes_in_batches_of_its_own(make_searcher):
    space = SearchSpace(
        name="two",
        description="",
        parameters={**SPACE.parameters, "model.decoder": Categorical(choices=("category", "shared"))},
    )
    searcher = make_searcher(members=lambda: 6, target=12, space=space)
    trial_batches = [searcher.suggest(str(index)) for index in range(4)]
    assert sorted(number for given in trial_batches for number in numbers(given)) == list(range(12))
    for given in trial_batches:
        assert len({TrialConfig.model_validate_json(each["config"]).model.decoder for each in given["members"]}) == 1


def test_a_batch_that_lost_its_process_goes_on_together_without_what_has_ended(make_searcher, make_metrics, study):
    searcher = make_searcher(members=lambda: 3, target=3)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(*(member_report(make_metrics(0.4, 0.1), 5, number=n) for n in range(3))))
    searcher.on_trial_result("a", result(member_report(make_metrics(0.4, 0.1), 10), stopped=[1]))
    die(searcher, "a", DIED)
    again = searcher.suggest("b")
    assert (again["trial_batch"], numbers(again), again["attempt"]) == ("batch-0000", [0, 2], 2)


def test_a_batch_that_lost_its_driver_goes_on_together(make_searcher, make_metrics, path):
    make_searcher(members=lambda: 3).suggest("a")
    study = reopen(path)
    release(study, "driver lost", "the driver was lost")
    searcher = make_searcher(study=study, members=lambda: 2)  # other trial batches are of two from now on
    assert [numbers(searcher.suggest(name)) for name in "abc"] == [[0, 1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(("kind", "state"), [("exception", "failed"), ("out of memory", "failed")])
def test_whose_fault_it_was_is_found_in_halves(make_searcher, make_metrics, study, kind, state):
    searcher = make_searcher(members=lambda: 8, target=8)
    waiting, tried = [searcher.suggest("0")], 0
    while waiting:
        given = waiting.pop()
        members = numbers(given)
        if 5 in members:
            said = [member_failure(kind, "X", number) for number in members]
        else:
            said = [member_report(make_metrics(0.4, 0.1), 10, "complete", number) for number in members]
        searcher.on_trial_complete(str(tried), result(*said))
        tried += 1
        while isinstance(more := searcher.suggest(str(tried + len(waiting))), dict):
            waiting.insert(0, more)
    found = {record.number: (record.state, record.kind) for record in read_search(study)}
    assert found == {**dict.fromkeys(range(8), ("complete", "")), 5: (state, kind)}
    trial_batches = [attempt.trial_batch for attempt in attempts_at(study.trials[5])]
    assert trial_batches[:4] == ["batch-0000", "batch-0004", "batch-0004", ""]
    assert len(trial_batches) == {"exception": 4, "out of memory": 6}[kind]  # alone, memory is doubled twice


def test_a_batch_that_gets_no_further_is_split(make_searcher):
    searcher = make_searcher(members=lambda: 4, target=4, events=(noted := Noted()))
    searcher.suggest("a")
    die(searcher, "a", DIED)
    assert numbers(searcher.suggest("b")) == [0, 1, 2, 3]
    die(searcher, "b", DIED)
    assert [numbers(searcher.suggest(name)) for name in "cd"] == [[0, 1], [2, 3]]
    assert noted.messages[-1] == "batch 0000: its process died: killed, out of memory, or crashed; tried again in parts"


def test_stopped_trials_of_a_batch_are_stopped_again_after_its_process_was_lost():
    sent = []
    actor = SimpleNamespace(stop_members=SimpleNamespace(remote=sent.append))

    def trial_batch(*members: int) -> SimpleNamespace:
        config = {"members": [{"number": number} for number in members]}
        return SimpleNamespace(config=config, temporary_state=SimpleNamespace(ray_actor=actor))

    def said(trained: int, **fvu: float) -> dict:
        return result(*({"number": int(n[1:]), "trained": trained, "fvu_worst": value} for n, value in fvu.items()))

    rule = make_scheduler(StoppingConfig(grace=5), 20, [])
    stopper = PerTrialScheduler(lambda _: rule)
    first = trial_batch(0, 1, 2)
    stopper.on_trial_add(None, first)
    assert stopper.on_trial_result(None, first, said(5, m0=0.3, m1=0.5, m2=0.6)) == TrialScheduler.CONTINUE
    assert sent == [[1, 2]]
    again = trial_batch(0, 1, 2)
    stopper.on_trial_add(None, again)
    assert stopper.on_trial_result(None, again, said(3, m0=0.4, m1=0.6)) == TrialScheduler.CONTINUE
    assert sent == [[1, 2], [1]]
    left = trial_batch(1, 2)
    stopper.on_trial_add(None, left)
    assert stopper.on_trial_result(None, left, said(3, m1=0.6)) == TrialScheduler.STOP


# ---------------------------------------------------------------- deterministic studies

BATCH, TARGET, EPOCHS = 3, 14, 5


class Driver:
    """A deterministic study on a simulated cluster, on which nodes are lost and trials end in an order of their own."""

    def __init__(self, path: Path, make_metrics, order: int, batch: int | None = BATCH):
        study = reopen(path)
        release(study, "driver lost", "")
        for sharpness in (0.7, 1.1):
            study.enqueue_trial({"compression.sharpness": sharpness}, skip_if_exists=True)
        self.searcher = build_searcher(
            study=study, baseline=Baseline(make_metrics(0.5, 0.1)), target=TARGET, batch=batch
        )
        stopping = StoppingConfig(grace=2)
        self.stopper = PerTrialScheduler(lambda _: make_scheduler(stopping, EPOCHS, finished_trials(study)))
        self.make_metrics, self.random = make_metrics, random.Random(order)

    def run(self) -> None:
        names, running = (str(index) for index in itertools.count()), {}
        while True:
            while len(running) < 3 and isinstance(given := self.searcher.suggest(name := next(names)), dict):
                running[name] = SimpleNamespace(config=given, epoch=0)
                self.stopper.on_trial_add(None, running[name])
            if not running:
                return
            name = self.random.choice(list(running))
            if self.random.random() < 0.05:
                die(self.searcher, name, NODE)
                del running[name]
            elif self.is_over(name, running[name]):
                del running[name]

    def is_over(self, name: str, trial: SimpleNamespace) -> bool:
        """Train an epoch; return whether the trial is over."""
        trial.epoch += 1
        [member] = trial.config["members"]
        number, config = member["number"], TrialConfig.model_validate_json(member["config"])
        if number % 7 == 5 and trial.epoch == 3:
            self.searcher.on_trial_complete(name, failure("non-finite", number=number))
            return True
        rule = 0.1 if config.compression.rule == "graded" else 0.0
        worst = 0.3 + rule + abs(config.compression.sharpness - 1.3) / 4 + 0.2 / trial.epoch
        status = "complete" if trial.epoch == EPOCHS else "running"
        said = report(self.make_metrics(worst, 0.1), trial.epoch, status, number)
        stopped = self.stopper.on_trial_result(None, trial, said) == TrialScheduler.STOP
        if not stopped:
            self.searcher.on_trial_result(name, said)
        if stopped or trial.epoch == EPOCHS:
            self.searcher.on_trial_complete(name, said)
        return stopped or trial.epoch == EPOCHS


def outcome(path: Path) -> list[TrialRecord]:
    """Return what a study found, without the story of how it got there."""
    return [replace(record, attempts=[], seconds=0.0) for record in read_search(read_journal(path))]


def difference(found: list[TrialRecord], expected: list[TrialRecord]) -> list[str]:
    """Return what differs between two outcomes, a line a field."""
    pairs = itertools.zip_longest(found, expected)
    return [
        f"{one and one.number}.{name}: {getattr(one, name, None)} != {getattr(other, name, None)}"[:400]
        for one, other in pairs
        for name in TrialRecord.__dataclass_fields__
        if getattr(one, name, None) != getattr(other, name, None)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, make_metrics) -> tuple[Path, list[TrialRecord]]:
    path = tmp_path_factory.mktemp("undisturbed") / "optuna.journal"
    Driver(path, make_metrics, order=0).run()
    found = outcome(path)
    assert [record.number for record in found] == list(range(TARGET))
    assert {record.state for record in found} == {"complete", "pruned", "diverged"}
    return path, found


def test_the_same_seed_gives_the_same_trials_in_whatever_order_they_end(undisturbed, path, make_metrics):
    Driver(path, make_metrics, order=1).run()
    assert not difference(outcome(path), undisturbed[1])


@pytest.mark.parametrize("part", range(6))
def test_killed_at_any_write_and_resumed_it_gives_the_same_trials(undisturbed, path, make_metrics, part):
    whole, expected = undisturbed[0].read_bytes(), undisturbed[1]
    moment = random.Random(part).randrange(len(whole) * part // 6, len(whole) * (part + 1) // 6)
    path.write_bytes(whole[:moment])  # a line may be cut off in its middle
    Driver(path, make_metrics, order=part).run()
    assert not difference(outcome(path), expected), f"killed after {moment} bytes"


def test_by_default_the_order_in_which_trials_end_counts(tmp_path, make_metrics):
    """Otherwise the tests above would show nothing."""
    found = []
    for order in (1, 2):
        path = tmp_path / f"{order}.journal"
        Driver(path, make_metrics, order, batch=None).run()
        found.append([record.params for record in outcome(path)])
    assert found[0] != found[1]


# ---------------------------------------------------------------- reports


ALIKE = {"space": replace(SPACE, parameters={"compression.rule": SPACE.parameters["compression.rule"]})}
"""Two configs, so that a third trial trains what an earlier one trained."""
NAMES = itertools.count()


def ask_all(searcher: AskTellSearcher) -> dict[str, int]:
    """Ask until there is nothing to run before something ends: Tune's name and the number of each trial."""
    given = {}
    while isinstance(found := searcher.suggest(name := f"ask-{next(NAMES)}"), dict):
        [member] = found["members"]
        given[name] = member["number"]
    return given


def complete_all(searcher: AskTellSearcher, given: dict[str, int], make_metrics) -> None:
    for place, (name, number) in enumerate(given.items()):
        searcher.on_trial_complete(name, report(make_metrics(0.4, 0.1 + 0.1 * place), 10, "complete", number))


def test_of_trials_that_train_the_same_one_is_trained(make_searcher, make_metrics, study):
    searcher = make_searcher(**ALIKE, target=6, events=(noted := Noted()))
    given = ask_all(searcher)
    assert len(given) == 2
    complete_all(searcher, given, make_metrics)
    assert searcher.suggest("x") == Searcher.FINISHED
    records = read_search(study)
    assert len(records) == len(noted.ended) == 6
    for record in records:
        [first] = [each for each in records if each.number in given.values() and each.params == record.params]
        assert record.metrics == first.metrics
        assert record.guards == first.guards
        assert study.trials[record.number].value == study.trials[first.number].value
        if record is not first:
            assert record.reason == f"the same plan and training as trial {first.number}, which completed"
            assert (record.kind, record.feasible) == ("duplicate", False)


def test_what_the_baseline_trained_is_not_trained_again(make_searcher, make_metrics, make_record, study):
    choices = Categorical(choices=("uniform", "balanced"))
    space = SearchSpace(name="two", description="", parameters={"compression.strategy": choices})
    baseline, base = make_record(0, 0.5, 0.1, phase="baseline", arm="baseline"), TrialConfig(seed=7)
    prior = PriorTrials(study, space, Baseline(baseline.metrics), GuardsConfig())
    assert add_baseline(prior, base, baseline)
    searcher = make_searcher(space=space, target=20, events=(noted := Noted()))
    given = ask_all(searcher)
    assert len(given) == 1
    complete_all(searcher, given, make_metrics)
    assert searcher.suggest("x") == Searcher.FINISHED
    alike = [record for record in noted.ended if record.params["compression.strategy"] == "uniform"]
    assert len(noted.ended) == 20 and alike
    for record in alike:
        assert record.reason == "the same plan and training as the uniform baseline, which completed"
        assert (record.kind, record.feasible, record.metrics) == ("duplicate", False, baseline.metrics)
        assert study.trials[record.number].value == study.trials[0].value


def test_what_an_earlier_driver_trained_is_not_trained_again(make_searcher, make_metrics, path):
    searcher = make_searcher(**ALIKE, target=4)
    complete_all(searcher, ask_all(searcher), make_metrics)
    resumed = make_searcher(study=reopen(path), **ALIKE, target=8)
    assert len(resumed.records()) == 4
    assert ask_all(resumed) == {}
    assert len(resumed.records()) == 8


def test_what_had_its_outcome_but_was_not_told_is_not_trained_again(make_searcher, make_metrics, path):
    searcher = make_searcher(**ALIKE, target=12, batch=6)
    given = ask_all(searcher)
    assert len(given) == 2
    last = max(given, key=given.__getitem__)
    complete_all(searcher, {last: given[last]}, make_metrics)  # told with its batch, which never is complete
    reopened = reopen(path)
    release(reopened, "driver lost", "the driver was lost")
    resumed = make_searcher(study=reopened, **ALIKE, target=12, batch=6)
    again = ask_all(resumed)
    assert list(again.values()) == [min(given.values())]
    complete_all(resumed, again, make_metrics)
    assert ask_all(resumed) == {}
    assert len(resumed.records()) == 12


def test_a_failure_of_the_machine_is_no_outcome_of_its_twins(make_searcher, make_metrics, study):
    searcher = make_searcher(**ALIKE, target=6)
    for name, number in ask_all(searcher).items():
        searcher.on_trial_complete(name, failure("exception", number=number))
    again = ask_all(searcher)
    assert len(again) == 2
    complete_all(searcher, again, make_metrics)
    assert searcher.suggest("x") == Searcher.FINISHED
    assert sorted(record.state for record in read_search(study)) == ["complete"] * 4 + ["failed"] * 2


def test_a_failure_is_no_outcome_of_one_that_comes_later(make_searcher, study):
    one = {"space": replace(SPACE, parameters={"compression.rule": Categorical(choices=("graded",))})}
    searcher = make_searcher(**one, target=1)
    [(name, number)] = ask_all(searcher).items()
    searcher.on_trial_complete(name, failure("exception", number=number))
    later = make_searcher(study=study, **one, target=2)
    assert len(ask_all(later)) == 1


def test_a_restarted_trial_begins_its_curve_anew(make_searcher, make_metrics, study):
    searcher = make_searcher()
    searcher.suggest("a")
    for epoch in (5, 10, 5, 10, 15):
        searcher.on_trial_result("a", report(make_metrics(0.4, 0.1), epoch))
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 20, "complete"))
    assert [row["epoch"] for row in read_search(study)[0].curve] == [5, 10, 15, 20]


def test_the_study_is_never_pickled(make_searcher):
    assert pickle.loads(pickle.dumps(make_searcher())).__dict__ == {}


# ---------------------------------------------------------------- the journal


@pytest.mark.parametrize("tail", ['{"op_code": 5, "wor', '{"op_code": 5, "wor\n', "\x00\x00"])
def test_a_half_written_line_is_cut_off_and_kept_aside(make_searcher, make_metrics, path, tail):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 10, "complete"))
    whole = path.read_bytes()
    with path.open("a") as journal:
        journal.write(tail)
    assert repair(path)
    assert path.read_bytes() == whole
    assert path.with_name("optuna.journal.damaged").read_bytes() == whole + tail.encode()
    assert len(read_search(open_journal(path, "test"))) == 1


def test_damage_before_the_end_is_not_taken_for_an_interruption(path, study):
    study.ask()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"garbage\n", *lines[1:]]))
    before = path.read_bytes()
    with pytest.raises(SpinlockError, match="line 1: damaged"):
        reopen(path)
    assert path.read_bytes() == before


def test_a_write_that_fails_half_way_leaves_the_journal_whole(path, study):
    """A file size limit, met in the middle of a line, stands for a full disk."""
    trial = study.ask()
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            trial.set_user_attr("long", "x" * 1000)
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    trial.set_user_attr("long", "x" * 1000)
    assert reopen(path).trials[0].user_attrs["long"] == "x" * 1000


def test_a_whole_journal_is_left_alone(path, study):
    before = path.read_bytes()
    assert not repair(path)
    assert path.read_bytes() == before


def test_a_killed_drivers_lock_does_not_delay_the_next(path, study):
    Path(f"{path}.lock").touch()
    open_journal(path, "test").ask()
    assert not Path(f"{path}.lock").exists()
