"""What a study shows while it runs: readable with two running trials and with two hundred."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from results.records.trial_record import TrialRecord
from study.launch import main
from study.monitor.running_trials import Running, RunningTrials, lines
from study.monitor.terminal import Progress


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


def trial_batch(*numbers: int) -> SimpleNamespace:
    return SimpleNamespace(status="RUNNING", config={"members": [{"number": number} for number in numbers]})


def said(number: int, **report: float | str) -> dict:
    return {"reports": [{"number": number, **report}], "stopped": []}


def test_reports_are_followed_and_trials_that_ended_are_forgotten():
    running = RunningTrials()
    running.keep([trial_batch(4, 5)])
    running.report(said(4, epoch=5, fvu_worst=0.5), now=0.0)
    running.report(said(4, epoch=15, fvu_worst=0.4), now=10.0)
    running.report(said(5, status="failed"), now=10.0)
    assert running.trials == [Running(4, 15, 0.4), Running(5)]
    assert running.epochs_per_second(now=10.0) == pytest.approx(1.5)
    assert running.epochs_per_second(now=65.0) == pytest.approx(10 / 55)
    assert running.epochs_per_second(now=100.0) == 0.0
    running.keep([trial_batch(5), SimpleNamespace(status="TERMINATED", config={"members": [{"number": 4}]})])
    assert running.trials == [Running(5)]
    running.report(said(5, epoch=31, start=30, fvu_worst=0.3), now=100.0)  # it went on from a snapshot
    assert running.epochs_per_second(now=101.0) == pytest.approx(1)


def test_a_trial_that_ended_does_not_run_though_others_of_its_pack_do(make_metrics):
    running = RunningTrials()
    running.report({"reports": [{"number": 4, "epoch": 5}, {"number": 5, "epoch": 5}]}, now=0.0)
    running.end(4)
    running.keep([trial_batch(4, 5)])
    assert running.trials == [Running(5, 5)]
    assert running.epochs_per_second(now=1.0) == pytest.approx(10)


@pytest.mark.parametrize("count", [2, 200])
def test_the_view_fits_on_the_screen(monkeypatch, count, make_metrics):
    monkeypatch.setattr("study.monitor.terminal._utilization", lambda: "2 of 2 CPUs busy")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=24, color_system=None)
    progress = Progress(console)
    progress.begin(300, [], make_metrics(0.5, 0.1), epochs=40, addresses={"trials": "python -m study.dashboard s"})
    running = [trial_batch(number) for number in range(count)]
    for number, trial in enumerate(running):
        progress.on_trial_result(1, running, trial, said(number, epoch=3, fvu_worst=0.5))
    progress.on_step_end(1, running)
    progress.end()
    with console.capture() as capture:
        console.print(progress._view())
    shown = capture.get().splitlines()
    assert len(shown) <= 22
    assert f"{count} running" in capture.get()
    assert "trial 1    epoch  3 of 40  worst 0.500" in capture.get()


def test_elsewhere_a_trial_is_a_line(make_record: Callable[..., TrialRecord], make_metrics):
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(console)
    progress.begin(10, [], make_metrics(0.5, 0.1), epochs=40, addresses={})
    progress.on_trial_result(1, [trial_batch(1)], trial_batch(1), said(1, epoch=3, fvu_worst=0.5))
    progress.on_step_end(1, [trial_batch(1)])
    progress.told(make_record(1))
    progress.end()
    [line] = console.file.getvalue().splitlines()
    assert line.startswith("   1/10  trial 1")


@pytest.mark.parametrize(("flags", "shown"), [([], True), (["--quiet"], False)])
def test_quiet_shows_the_result_alone(monkeypatch, capsys, flags, shown):
    def run(config, *, resume: bool, console: Console) -> SimpleNamespace:
        console.print("what happens meanwhile")
        return SimpleNamespace(conclusion="found")

    monkeypatch.setattr("study.pipeline.run", run)
    monkeypatch.setattr("study.launch._show", lambda result, console: console.print(result.conclusion))
    assert main(["--name", "s", *flags]) == 0
    assert capsys.readouterr().out.split("\n") == (
        ["study runs/s", "what happens meanwhile", "found", ""] if shown else ["found", ""]
    )
