"""What experiment trackers are told, and what becomes of one that cannot be used."""

from __future__ import annotations

import threading

import pytest

from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.launch_options import make_parser, study_config
from study.monitor.tracking import Sender, check_trackers, params_of, run_key


class Told:
    """A tracker that has one run, and notes the others."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sent(self) -> set[str]:
        return {"there"}


def test_runs_are_sent_in_order_once_and_not_those_that_are_there() -> None:
    tracker, sender = Told(), Sender()
    sender.start(lambda: tracker)
    for key in ("a", "there", "b"):
        sender.put(lambda tracker, key=key: tracker.told.append(key), key)
    sender.finish(60)
    assert tracker.told == ["a", "b"]


def test_what_goes_wrong_in_the_thread_is_raised_in_the_drivers() -> None:
    def refuse() -> Told:
        raise ConnectionError("no route to host")

    sender = Sender()
    sender.start(refuse)
    with pytest.raises(ConnectionError, match="no route to host"):
        sender.finish(60)
    with pytest.raises(ConnectionError, match="no route to host"):
        sender.put(lambda tracker: None, "a")


def test_a_tracker_that_hangs_does_not_keep_the_study() -> None:
    sender, free = Sender(), threading.Event()
    sender.start(Told)
    sender.put(lambda tracker: free.wait() and None, "a")
    with pytest.raises(TimeoutError, match="sent when it is resumed"):
        sender.finish(0.01)
    free.set()


def test_every_training_has_the_settings_it_was_trained_with(make_record) -> None:
    drawn = {"compression.strategy": "balanced", "compression.bounds.L0.low": 0.3, "training.learning_rate": 0.01}
    trial = make_record(5, 0.5, 0.1, params=drawn)
    searched = {"trial-5": drawn}
    expected = {
        ("baseline", "baseline"): {"compression.strategy": "uniform"},
        ("final", "baseline"): {"compression.strategy": "uniform"},
        ("final", "trial-5"): drawn,
        ("final", "control-5"): {"compression.strategy": "uniform", "training.learning_rate": 0.01},
        ("final", "plain-feedback"): {"compression.strategy": "feedback"},
    }
    assert params_of(trial, searched) == drawn
    found = {(phase, arm): params_of(make_record(0, phase=phase, arm=arm), searched) for phase, arm in expected}
    assert found == expected
    of_search = {"feedback/trial-5": drawn}
    assert params_of(make_record(0, phase="final", arm="feedback/trial-5"), of_search) == drawn
    control = params_of(make_record(0, phase="final", arm="feedback/control-5"), of_search)
    assert control == expected["final", "control-5"]


def test_keys_tell_trainings_apart(make_record) -> None:
    records = [
        make_record(5),
        make_record(5, arm="feedback/trial-5"),
        make_record(5, phase="final", arm="trial-5"),
        make_record(5, phase="final", arm="feedback/trial-5"),
        make_record(0, phase="verification", arm="trial-5"),
    ]
    assert [run_key(record) for record in records] == [
        "trial-0005",
        "feedback-trial-0005",
        "final-trial-5-5",
        "feedback-final-trial-5-5",
        "verification-trial-5-0",
    ]


def test_nothing_is_sent_unless_it_is_asked_for_and_one_can_stop() -> None:
    def asked(*options: str) -> tuple[str, ...]:
        return study_config(make_parser().parse_args(["--name", "n", *options])).track

    assert asked() == ()
    assert asked("--track", "wandb", "mlflow") == ("wandb", "mlflow")
    assert asked("--track") == ()
    with pytest.raises(ConfigError, match="unknown tracker 'mlfow'; did you mean 'mlflow'"):
        asked("--set", "track=[mlfow]")


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_command(name: str, monkeypatch) -> None:
    monkeypatch.setattr("study.monitor.tracking.find_spec", lambda _: None)
    check_trackers(StudyConfig(name="n"))
    with pytest.raises(ConfigError) as refused:
        check_trackers(StudyConfig(name="n", track=(name,)))
    assert str(refused.value).endswith(f"install 'spinlock-dist[{name}]'")
    assert str(refused.value).startswith(f"--track {name}: the package {name} is not installed: ")
