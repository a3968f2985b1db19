"""What a study shows while it runs: readable with two running trials and with two hundred."""

from __future__ import annotations

import io
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
from study.events import SearchStart, TrialReport
from study.launch import main
from study.monitor.running_trials import Running, RunningTrials, lines
from study.monitor.terminal import TerminalView


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
        concurrent=2,
        baseline=make_metrics(0.5, 0.1),
        settings=TrialSettings({}),
        addresses={"trials": "python -m study.dashboard s"},
    )


@pytest.mark.parametrize("count", [2, 200])
def test_the_view_fits_on_the_screen(monkeypatch, count, search):
    monkeypatch.setattr("study.monitor.terminal._utilization", lambda: "2 of 2 CPUs busy")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=24, color_system=None)
    view = TerminalView(console)
    view.on_search_start(search)
    for number in range(count):
        view.on_trial_report(said(number, epoch=3, fvu_worst=0.5))
    view.on_running([[number] for number in range(count)])
    view.on_search_end()
    with console.capture() as capture:
        console.print(view._view(search))
    shown = capture.get().splitlines()
    assert len(shown) <= 22
    assert f"{count} running" in capture.get()
    assert "trial 1    epoch  3 of 40  worst 0.500" in capture.get()


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
        return SimpleNamespace(conclusion="found")

    monkeypatch.setattr("study.pipeline.run", run)
    monkeypatch.setattr("study.launch._show", lambda result, console: console.print(result.conclusion))
    assert main(["--name", "s", *flags]) == 0
    assert capsys.readouterr().out.split("\n") == (
        ["study runs/s", "what happens meanwhile", "found", ""] if shown else ["found", ""]
    )
