"""What a search does about devices that fail, against real Optuna storage; tests/faults has it on a real Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from results.records.optuna_trials import read_search
from study.search.constraints import Baseline
from study.search.schedulers import PerTrialScheduler
from study.search.searcher import AskTellSearcher, StopWhenGivenUp
from study.worker.device_health import DeviceHealth
from tests.unit.test_searcher import Noted, build_searcher, member_failure, reopen, report, result

SAID = "AcceleratorError: CUDA error: an illegal memory access was encountered"


def on(gpu: int, message: dict) -> dict:
    return {**message, "device": [f"GPU {gpu}", "H100", "here", "node"]}


class Driver:
    """Plays Tune: starts trials on GPUs and ends them."""

    def __init__(self, study, make_metrics, gpus: int = 8, **given):
        self.study, self.metrics, self.noted = study, make_metrics(0.4, 0.1), Noted()
        self.searcher: AskTellSearcher = build_searcher(
            study=study,
            baseline=Baseline(make_metrics(0.5, 0.1)),
            events=self.noted,
            health=DeviceHealth(lambda: {"node": gpus}),
            **given,
        )
        self.count = 0

    def start(self) -> tuple[str, list[int]]:
        self.count += 1
        given = self.searcher.suggest(str(self.count))
        assert isinstance(given, dict)
        return str(self.count), [member["number"] for member in given["members"]]

    def fail(self, started: tuple[str, list[int]], gpu: int) -> None:
        trial_id, numbers = started
        reports = [member_failure("device fault", SAID, number) for number in numbers]
        self.searcher.on_trial_result(trial_id, on(gpu, result(*reports)))
        if not self.searcher.keeps_device(trial_id):
            self.searcher.on_trial_complete(trial_id, error=True)
            self.searcher.on_death(trial_id, "The actor died")

    def complete(self, started: tuple[str, list[int]], gpu: int) -> None:
        trial_id, [number] = started
        last = on(gpu, report(self.metrics, 10, "complete", number))
        self.searcher.on_trial_result(trial_id, last)
        self.searcher.on_trial_complete(trial_id, last)

    def record(self, number: int):
        return next(record for record in read_search(self.study) if record.number == number)


@pytest.fixture
def study(tmp_path: Path):
    return reopen(tmp_path / "optuna.journal")


def test_a_broken_device_is_set_aside_after_two_trials_and_no_trial_is_charged(study, make_metrics):
    driver = Driver(study, make_metrics, target=4)
    driver.fail(driver.start(), gpu=3)
    second = driver.start()
    assert second[1] == [1]  # the first waits: it would be given the same device
    driver.fail(second, gpu=3)
    assert driver.searcher.keeps_device(second[0])
    assert any(line.startswith("GPU 3 (H100) of here is set aside") for line in driver.noted.messages)
    for number in (0, 1, 2, 3):
        started = driver.start()
        assert started[1] == [number]
        driver.complete(started, gpu=0)
    assert driver.searcher.suggest("end") == Searcher.FINISHED
    assert StopWhenGivenUp(driver.searcher).stop_all()  # what keeps the device would run for ever
    assert [record.state for record in read_search(study)] == ["complete"] * 4
    first = driver.record(0)
    assert [(attempt.kind, attempt.device, attempt.model) for attempt in first.attempts] == [
        ("device fault", "GPU 3", "H100"),
        ("", "GPU 0", "H100"),
    ]
    assert (first.device, first.model) == ("GPU 0", "H100")


def test_what_keeps_a_device_is_no_trial_any_more(study, make_metrics):
    driver = Driver(study, make_metrics, target=2)
    driver.fail(driver.start(), gpu=3)
    kept = driver.start()
    driver.fail(kept, gpu=3)
    driver.searcher.on_trial_result(kept[0], on(3, result()))
    driver.searcher.on_trial_complete(kept[0], error=True)  # its node is lost
    driver.searcher.on_death(kept[0], "node died")
    assert not driver.searcher.keeps_device(kept[0])
    for _ in range(2):
        driver.complete(driver.start(), gpu=0)
    assert [len(record.attempts) for record in read_search(study)] == [2, 2]


def test_a_trial_that_fails_on_three_devices_is_given_up_and_no_device_is_set_aside(study, make_metrics):
    driver = Driver(study, make_metrics, target=4)
    bad = driver.start()
    for gpu in (0, 1):
        driver.fail(bad, gpu)
        driver.complete(driver.start(), gpu)
        bad = driver.start()
        assert bad[1] == [0]
    driver.fail(bad, gpu=2)
    record = driver.record(0)
    assert (record.state, record.kind) == ("failed", "device fault")
    assert record.reason == f"{SAID} (3 attempts)"
    assert not driver.searcher.keeps_devices
    assert driver.searcher.failure is None


def test_two_trials_that_fail_on_the_only_device_end_the_search_and_are_not_charged(study, make_metrics):
    driver = Driver(study, make_metrics, gpus=1)
    for _ in range(2):
        driver.fail(driver.start(), gpu=0)
    assert driver.searcher.failure == "no device is left: GPU 0 (H100) of here failed time after time"
    assert read_search(study) == []


def test_a_search_without_room_beside_what_keeps_devices_is_begun_anew(study, make_metrics):
    driver = Driver(study, make_metrics, slots=lambda: 2)
    for gpu in (0, 1):
        for _ in range(2):
            driver.fail(driver.start(), gpu)
    assert driver.searcher.crowded_out
    assert StopWhenGivenUp(driver.searcher).stop_all()


def test_a_search_goes_on_beside_a_process_whose_node_has_left_with_its_device(study, make_metrics):
    """Tune hears of it later than the count of places falls; what ran would be stopped, and begun anew."""
    places, there = [2], {"node": 1, "other": 1}
    driver = Driver(study, make_metrics, target=3, slots=lambda: places[0])
    driver.searcher._plan.health.gpus = lambda: there
    driver.fail(driver.start(), gpu=0)
    driver.fail(driver.start(), gpu=0)
    running = driver.start()
    assert driver.searcher.keeps_devices and not driver.searcher.crowded_out
    del there["node"]
    places[0] = 1
    assert not StopWhenGivenUp(driver.searcher).stop_all()
    driver.complete(running, gpu=1)


def test_a_batch_that_met_a_broken_device_is_tried_again_together(study, make_metrics):
    driver = Driver(study, make_metrics, target=4, members=lambda: 2)
    first = driver.start()
    driver.fail(first, gpu=0)
    driver.fail(driver.start(), gpu=0)
    assert driver.start()[1] == first[1]


def test_exceptions_of_one_device_alone_set_it_aside_and_the_last_is_not_charged(study, make_metrics):
    driver = Driver(study, make_metrics, target=6)
    healthy = driver.start()
    driver.searcher.on_trial_result(healthy[0], on(1, report(driver.metrics, 5, number=healthy[1][0])))
    for number in (1, 2, 3):
        trial_id, [given] = driver.start()
        assert given == number
        failed = on(0, result(member_failure("exception", "RuntimeError: odd", number)))
        driver.searcher.on_trial_result(trial_id, failed)
        if number < 3:
            driver.searcher.on_trial_complete(trial_id, failed)
    assert driver.searcher.keeps_device(trial_id)
    assert "GPU 0 (H100) of here is set aside, one training after another failed on it: RuntimeError: odd" in (
        driver.noted.messages
    )
    driver.complete(healthy, gpu=1)
    for number in (3, 4, 5):
        started = driver.start()
        assert started[1] == [number]
        driver.complete(started, gpu=1)
    assert [record.state for record in read_search(study)] == ["complete"] + ["failed"] * 2 + ["complete"] * 3
    assert driver.searcher.failure is None


def test_all_failures_on_one_device_name_it(study, make_metrics):
    driver = Driver(study, make_metrics)
    driver.complete(driver.start(), gpu=1)
    for _ in range(3):
        trial_id, [number] = driver.start()
        failed = on(0, result(member_failure("exception", "RuntimeError: odd", number)))
        driver.searcher.on_trial_complete(trial_id, failed)
    assert driver.searcher.failure is not None
    assert driver.searcher.failure.endswith("all of them on GPU 0 of here, and others complete trials: is it broken?")


def test_the_scheduler_does_not_stop_what_keeps_a_device(study):
    scheduler = PerTrialScheduler(lambda _: FIFOScheduler())
    scheduler._stopped.add(0)
    trial = type("Trial", (), {"config": {"members": [{"number": 0}]}})()
    assert scheduler.on_trial_result(None, trial, {"reports": []}) == TrialScheduler.CONTINUE
