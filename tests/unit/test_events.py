"""Who is told what happens in a study, and what becomes of a listener that fails."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from study.events import Broadcast, PhaseStart, StudyEvents, TrialReport
from study.search.tune_events import TuneEvents

EVENTS = [name for name in vars(StudyEvents) if name.startswith("on_")]


class Noted(StudyEvents):
    """Notes messages and reports."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.reports: list[TrialReport] = []
        self.running: list[list[list[int]]] = []
        self.phases: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_trial_report(self, report: TrialReport) -> None:
        self.reports.append(report)

    def on_phase_start(self, start: PhaseStart) -> None:
        self.phases.append(start.phase)

    def on_phase_end(self) -> None:
        self.phases.append("end")

    def on_running(self, batches) -> None:
        self.running.append(batches)


class Failing(StudyEvents):
    """Fails at every report."""

    def __init__(self) -> None:
        self.called = 0

    def on_trial_report(self, report: TrialReport) -> None:
        self.called += 1
        raise OSError("no route to host")


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_sent_on_to_parts_and_then_to_monitors(event):
    got = []
    part, monitor = (SimpleNamespace(**{event: lambda *a, name=name: got.append(name)}) for name in ("part", "monitor"))
    arguments = {"on_search_end": [], "on_phase_end": [], "on_phase_progress": [1, 2]}.get(event, ["x"])
    getattr(Broadcast({"m": monitor}, [part]), event)(*arguments)
    assert got == ["part", "monitor"]


def test_a_monitor_that_fails_is_reported_once_and_left_out():
    failing, noted = Failing(), Noted()
    events = Broadcast({"graphite": failing, "terminal": noted})
    within_a_search = events.with_parts(StudyEvents())
    within_a_search.on_trial_report(TrialReport(1, {"epoch": 1}))
    within_a_search.on_trial_report(TrialReport(1, {"epoch": 2}))
    events.on_trial_report(TrialReport(1, {"epoch": 3}))  # nor is it called after the search
    assert noted.messages == ["monitor 'graphite' failed and is left out from now on: OSError: no route to host"]
    assert failing.called == 1
    assert [report.epoch for report in noted.reports] == [1, 2, 3]


def test_a_phase_ends_also_when_it_fails():
    noted = Noted()
    with pytest.raises(OSError, match="no space"), Broadcast({"terminal": noted}).phase(PhaseStart(phase="baseline")):
        raise OSError("no space left on device")
    assert noted.phases == ["baseline", "end"]


def test_a_part_that_fails_ends_the_study():
    with pytest.raises(OSError, match="no route to host"):
        Broadcast({"terminal": Noted()}, [Failing()]).on_trial_report(TrialReport(1, {"epoch": 1}))


def test_what_tune_calls_back_becomes_events(tmp_path):
    noted, deaths = Noted(), []
    adapter = TuneEvents(noted, lambda name, text: deaths.append((name, text)))
    row = {"epoch": 5, "fvu_worst": 0.5}
    reports = [{"number": 4, "start": 2, "curve": json.dumps(row)}, {"number": 5, "status": "failed"}]
    adapter.on_trial_result(1, [], SimpleNamespace(trial_id="a"), {"reports": reports})
    assert noted.reports == [TrialReport(4, row, 2)]
    trials = [
        SimpleNamespace(trial_id="a", status="RUNNING", config={"members": [{"number": 4}, {"number": 5}]}),
        SimpleNamespace(trial_id="b", status="TERMINATED", config={"members": [{"number": 3}]}),
    ]
    adapter.on_step_end(1, trials)
    adapter.on_step_end(2, trials)  # at once: Tune ends many steps a second
    assert noted.running == [[[4, 5]]]
    (tmp_path / "error.txt").write_text("its node has died")
    adapter.on_trial_error(1, [], SimpleNamespace(trial_id="a", error_file=tmp_path / "error.txt"))
    adapter.on_trial_error(1, [], SimpleNamespace(trial_id="b", error_file=tmp_path / "missing"))
    assert deaths == [("a", "its node has died"), ("b", "")]


def test_the_results_of_a_trial_are_let_go_of_once_tune_has_ended_it():
    """Tune keeps every trial, and with it the last result, until the search ends."""
    adapter, trial = TuneEvents(Noted(), lambda name, text: None), Trial("train", stub=True)
    trial.update_last_result({"reports": ["x" * 10_000], "fvu_worst": 0.5})
    adapter.on_trial_complete(1, [trial], trial)
    adapter.on_step_end(1, [trial])
    assert trial.last_result["reports"], "it still runs"
    trial.set_status(Trial.TERMINATED)
    adapter.on_step_end(2, [trial])
    assert "reports" not in trial.last_result
    assert len(pickle.dumps(trial.run_metadata)) < 2_000
