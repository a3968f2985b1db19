"""How long a study still takes, from the trainings that have ended."""

from __future__ import annotations

import pytest

from study.events import PhaseStart, PhaseWork
from study.monitor.time_left import TimeLeft, in_words

WORK = (
    PhaseWork(phase="baseline", epochs=10),
    PhaseWork(phase="search", epochs=100),
    PhaseWork(phase="finals", epochs=30, maybe=40),
    PhaseWork(phase="verification", epochs=10),
)


@pytest.fixture
def left(make_record) -> TimeLeft:
    """Of a study whose baseline took two seconds an epoch."""
    found = TimeLeft()
    found.plan(WORK)
    found.start(PhaseStart(phase="baseline", total=1), now=0.0)
    found.trained(make_record(0, phase="baseline", epochs=10, seconds=20.0))
    found.progress(1)
    return found


def test_nothing_is_known_before_a_training_has_ended():
    found = TimeLeft()
    found.plan(WORK)
    found.start(PhaseStart(phase="baseline", total=1), now=0.0)
    assert found.of_study(now=5.0) is None
    assert in_words(found.of_study(now=5.0)) == "not known yet"


def test_phases_to_come_take_what_their_epochs_take(left):
    left.start(PhaseStart(phase="search", total=20, unit="trials"), now=20.0)
    assert left.of_study(now=20.0) == (280.0, 360.0)
    assert left.of_study(now=70.0) == (230.0, 310.0)
    assert left.of_phase(now=300.0) is None  # it should be over: no one knows


def test_a_phase_goes_on_at_its_own_pace(left):
    left.start(PhaseStart(phase="search", total=20, unit="trials"), now=20.0)
    left.progress(5)
    assert left.of_phase(now=50.0) == 90.0
    assert left.of_study(now=50.0) == (170.0, 250.0)


def test_what_an_earlier_run_did_is_done_and_no_pace(left):
    left.start(PhaseStart(phase="search", total=20, unit="trials"), now=0.0)
    left.earlier(15)
    assert left.of_phase(now=0.0) == 50.0  # a quarter of 100 epochs
    left.progress(16)
    assert left.of_phase(now=10.0) == 40.0
    left.start(PhaseStart(phase="finals", total=12, done=6, open_ended=True), now=0.0)
    assert left.of_study(now=0.0) == (30 + 20, 30 + 20 + 80)


def test_finals_that_go_on_after_their_first_look_have_no_more_to_come(left):
    left.start(PhaseStart(phase="finals", total=6, open_ended=True), now=0.0)
    left.progress(3, 6)
    assert left.of_study(now=30.0) == (50.0, 130.0)
    left.progress(6, 12)
    assert left.of_study(now=60.0) == (80.0, 80.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ((0.2, 0.3), "about 1 s"),
        ((40, 41), "40 to 41 s"),
        ((55, 89), "55 to 89 s"),
        ((60, 130), "1 to 2 min"),
        ((290, 310), "about 5 min"),
        ((5000, 9000), "1 to 2 h"),
    ],
)
def test_times_are_said_as_people_say_them(seconds, words):
    assert in_words(seconds) == words
