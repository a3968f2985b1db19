"""What a study shows while it runs: readable with two running trials and with two hundred."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from results.records.settings import TrialSettings
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from spinlock_dist.config import TrialConfig
from study.events import PhaseStart, PhaseWork, SearchStart, TrialReport
from study.launch import main
from study.monitor.running_trials import Running, RunningTrials, lines
from study.monitor.terminal import TerminalView, trial_line


def trials(count: int) -> list[Running]:
    return [Running(number, epoch=number % 40, fvu_worst=0.9 - number / 1000) for number in range(count)]


def test_few_trials_have_a_line_each():
    assert lines(trials(2), 40, most=4) == [
        "trial 0    epoch  0 of 40  worst 0.900",
        "trial 1    epoch  1 of 40  worst 0.899",
    ]
    assert lines([], 40, most=4) == ["none"]
    assert lines([Running(3)], 40, most=1) == ["trial 3    epoch  0 of 40"]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_of_many_the_best_are_shown_and_the_others_summed_up(most):
    shown = lines(trials(200), 40, most)
    assert len(shown) == most
    assert [int(line.split()[1]) for line in shown[:-1]] == list(range(199, 200 - most, -1))
    assert shown[-1].startswith(f"{201 - most} others: epochs 0 to 39" if most > 1 else "200 trials: epochs 0 to 39")
    assert "worst 0.7" in shown[-1]


def said(number: int, start: int = 0, **row: float) -> TrialReport:
    return TrialReport(number, row, start)


def test_reports_are_followed_and_trials_that_ended_are_forgotten():
    running = RunningTrials()
    running.keep([[4, 5]])
    running.report(said(4, epoch=5, fvu_worst=0.5), now=0.0)
    running.report(said(4, epoch=15, fvu_worst=0.4), now=10.0)
    assert running.trials == [Running(4, 15, 0.4), Running(5)]
    assert running.epochs_per_second(now=10.0) == pytest.approx(1.5)
    assert running.epochs_per_second(now=65.0) == pytest.approx(10 / 55)
    assert running.epochs_per_second(now=100.0) == 0.0
    running.keep([[5]])
    assert running.trials == [Running(5)]
    running.report(said(5, epoch=31, start=30, fvu_worst=0.3), now=100.0)  # it was resumed from a snapshot
    assert running.epochs_per_second(now=101.0) == pytest.approx(1)


def test_a_trial_that_ended_does_not_run_though_others_of_its_batch_do():
    running = RunningTrials()
    running.report(said(4, epoch=5), now=0.0)
    running.report(said(5, epoch=5), now=0.0)
    running.end(4)
    running.keep([[4, 5]])
    assert running.trials == [Running(5, 5)]
    assert running.epochs_per_second(now=1.0) == pytest.approx(10)


@pytest.fixture
def search(make_metrics) -> SearchStart:
    return SearchStart(
        study="s",
        folder=StudyFolder(Path()),
        target=10,
        earlier=(),
        epochs=40,
        slots=lambda: 2,
        members=1,
        baseline=make_metrics(0.5, 0.1),
        settings=TrialSettings({}),
        addresses={"trials": "python -m study.dashboard s"},
    )


def terminal(width: int, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def drawn(view: TerminalView, console: Console) -> list[str]:
    """What the live view shows now."""
    beside = terminal(console.width, console.height)
    beside.print(view.draw())
    return [line.rstrip() for line in beside.file.getvalue().splitlines()]


@pytest.mark.parametrize("count", [2, 200])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_on_the_screen(monkeypatch, count, width, search):
    monkeypatch.setattr("study.monitor.terminal._utilization", lambda: "2 of 2 CPUs busy")
    console = terminal(width)
    view = TerminalView(console)
    with_phase = PhaseStart(phase="search", total=10, unit="trials")
    view.on_phase_start(with_phase)
    view.on_search_start(search)
    for number in range(count):
        view.on_trial_report(said(number, epoch=3, fvu_worst=0.5))
    view.on_running([[number] for number in range(count)])
    shown = drawn(view, console)
    view.on_search_end()
    view.on_phase_end()
    assert len(shown) <= 22
    assert max(map(len, shown)) <= width
    assert any(f"{count} running" in line for line in shown)
    if width >= 80:
        assert any("trial 1    epoch  3 of 40  worst 0.500" in line for line in shown)
        assert any("baseline" in line and "imbalance 5.00x  worst 0.500  mean 0.300" in line for line in shown)
    else:
        assert any(line.endswith("epoch  3 of 40" if count == 2 else "others") for line in shown)
        assert any(
            "baseline" in line and line.rstrip().endswith("imbalance 5.00x" + "  worst 0.500" * (count == 2))
            for line in shown
        )


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_phase_is_shown_with_its_progress_and_the_time_left(make_record, width):
    console = terminal(width)
    view = TerminalView(console)
    view.on_phase_start(PhaseStart(phase="start-up"))
    assert drawn(view, console) == ["start-up  for 1 s"]
    view.on_phase_end()
    view.on_phase_start(PhaseStart(phase="simulation", total=1000, unit="operators"))
    view.on_phase_progress(100, 1000)
    bar, count, left = drawn(view, console)
    assert bar.startswith("simulation  ━") and len(bar) <= width
    assert (count.strip(), left.split("  ")[0]) == ("100 of 1000 operators", "time left")
    view.on_phase_end()
    view.on_plan([PhaseWork(phase="baseline", epochs=10), PhaseWork(phase="finals", epochs=20, maybe=20)])
    view.on_phase_start(PhaseStart(phase="baseline", total=2))
    assert len(drawn(view, console)) == 2  # nothing is known of how fast trainings are
    view.on_training_end(make_record(0, 0.5, 0.1, phase="baseline", arm="baseline", epochs=10, seconds=600.0))
    *_, count, left = drawn(view, console)
    assert (count.strip(), left) == ("1 of 2 trainings", "time left  20 to 40 min")
    view.on_phase_end()
    assert view.draw() == ""
    assert "seed 0:  imbalance 5.00x" in console.file.getvalue()


def test_a_trial_that_ended_stays_above_the_live_view(make_record, search):
    console = terminal(80)
    view = TerminalView(console)
    view.on_phase_start(PhaseStart(phase="search", total=10, unit="trials"))
    view.on_search_start(search)
    view.on_trial_end(make_record(1, 0.5, 0.1))
    view.on_search_end()
    view.on_phase_end()
    assert "   1/10  trial 1" in console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200, None])
@pytest.mark.parametrize("state", ["complete", "pruned"])
def test_the_line_of_a_trial_has_whole_figures_as_many_as_fit(make_record, width, state):
    settings = TrialSettings.of(TrialConfig().with_overrides({"compression.strategy": "dimensionality"}))
    record = make_record(17, 0.5124, 0.1371, state=state, epochs=20, seconds=12.34)
    whole = trial_line("17/200", record, settings).split("  ")
    line = trial_line("17/200", record, settings, width)
    assert width is None or len(line) <= width
    assert {part.strip() for part in line.split("  ")} <= {part.strip() for part in whole}
    assert "trial 17" in line and "imbalance 3.74x" in line
    assert ("dimensionality" in line) == (width is None or width >= 120)


def test_what_went_wrong_with_a_trial_is_told_whole(make_record):
    reason = "the loss was not finite in epoch 3; lower training.learning_rate"
    line = trial_line("3/8", make_record(3, state="diverged", reason=reason), TrialSettings({}), width=40)
    assert line.endswith(f"diverged       {reason}")


def test_elsewhere_a_long_phase_is_a_line_a_tenth_and_nothing_what_is_there_already(make_record):
    console = Console(file=io.StringIO(), width=100)
    view = TerminalView(console)
    for steps in (range(0, 101, 5), [100]):
        view.on_phase_start(PhaseStart(phase="simulation", total=100, unit="operators"))
        for done in steps:
            view.on_phase_progress(done, 100)
        view.on_phase_end()
    lines = console.file.getvalue().splitlines()
    assert lines == [f"  {tenth}0 of 100 operators" for tenth in range(1, 11)]


def test_elsewhere_each_phase_says_how_long_the_study_will_take(make_record):
    console = Console(file=io.StringIO(), width=100)
    view = TerminalView(console)
    view.on_plan([PhaseWork(phase="baseline", epochs=10), PhaseWork(phase="search", epochs=60)])
    view.on_phase_start(PhaseStart(phase="baseline", total=1))
    view.on_training_end(make_record(0, 0.5, 0.1, phase="baseline", epochs=10, seconds=600.0))
    view.on_phase_end()
    view.on_phase_start(PhaseStart(phase="search", total=4, unit="trials"))
    assert console.file.getvalue().splitlines()[-1] == "  about 60 min left"
    assert "\x1b" not in console.file.getvalue()


def test_elsewhere_a_trial_is_a_line(make_record: Callable[..., TrialRecord], search):
    console = Console(file=io.StringIO(), width=100)
    view = TerminalView(console)
    view.on_search_start(search)
    view.on_trial_report(said(1, epoch=3, fvu_worst=0.5))
    view.on_running([[1]])
    view.on_trial_end(make_record(1))
    view.on_search_end()
    [line] = console.file.getvalue().splitlines()
    assert line.startswith("   1/10  trial 1")


@pytest.mark.parametrize("params", [{}, {"compression.strategy": "feedback"}])
def test_a_strategy_that_is_fixed_is_in_the_line_too(make_record: Callable[..., TrialRecord], search, params):
    console = Console(file=io.StringIO(), width=100)
    view = TerminalView(console)
    settings = TrialSettings.of(TrialConfig().with_overrides({"compression.strategy": "feedback"}))
    view.on_search_start(replace(search, settings=settings))
    view.on_trial_end(make_record(1, 0.5, 0.1, params=params))
    assert "feedback codes  feasible" in console.file.getvalue()


@pytest.mark.parametrize(("flags", "shown"), [([], True), (["--quiet"], False)])
def test_quiet_shows_the_result_alone(monkeypatch, capsys, flags, shown):
    def run(config, *, resume: bool, console: Console, **_: object) -> SimpleNamespace:
        console.print("what happens meanwhile")
        return SimpleNamespace(conclusion="found", verdict=SimpleNamespace(choice=None))

    monkeypatch.setattr("study.pipeline.run", run)
    monkeypatch.setattr("study.launch._show", lambda result, console: console.print(result.conclusion))
    assert main(["--name", "s", *flags]) == 0
    assert capsys.readouterr().out.split("\n") == (
        ["study runs/s", "what happens meanwhile", "found", ""] if shown else ["found", ""]
    )


@pytest.mark.parametrize(("given", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_heeded(monkeypatch, make_record, search, given, colours):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm-256color", **given})
    monkeypatch.setattr("study.monitor.terminal._utilization", lambda: "2 of 2 CPUs busy")
    view = TerminalView(console)
    view.on_phase_start(PhaseStart(phase="search", total=10, unit="trials"))
    view.on_search_start(search)
    view.on_trial_end(make_record(1, 0.5, 0.1))
    view.on_running([[2]])
    view.on_search_end()
    view.on_phase_end()
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", console.file.getvalue())) == colours
