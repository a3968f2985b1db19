"""Trials until one of the best 1 % is found, by TPE + ASHA and by random search, on a table of recorded trials.

    python benchmarks/samplers.py [--table benchmarks/trials.parquet] [--seeds 10] [--at-a-time 4]

Searcher, samplers and early stopping are those of a study. A suggestion is answered by the recorded trial nearest to
it, report for report, so that every search meets the same landscape and costs no training. Sought is one of the
feasible trials of least imbalance, 1 % of the table (at least one), trained to its end. What training in batches costs
stands in arms of its own: `--at-a-time` trial batches at a time, suggested at once. Trials count as they end,
stopped ones too; a search that finds none ends after as many as the table has, and counts that many. No arm is given
the initial trials of a study. Distance: numbers by their scale in [0, 1]; choices that differ, or count on one side
only, 1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import optuna
import pandas as pd
from ray.tune.schedulers import TrialScheduler
from record_trials import BASELINE, KEPT, OUT
from units import to_unit

from results.records.trial_record import TrialRecord
from results.verdict.contrasts import Contrast
from search_spaces import Categorical, SearchSpace, load_space
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Metrics
from study.cluster.resources import Resources
from study.config import GuardsConfig, StoppingConfig, StudyConfig
from study.events import StudyEvents
from study.samplers.build import make_sampler
from study.search.constraints import Baseline, guards
from study.search.schedulers import PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan
from study.worker.actor import numbers_of


class Arm(NamedTuple):
    """How one searches: sampler, early stopping, and how many trials train in lock step on a worker."""

    sampler: str
    rule: str
    members: int = 1


ARMS = {
    "random": Arm("random", "none"),
    "random + ASHA": Arm("random", "asha"),
    "TPE": Arm("tpe", "none"),
    "TPE + ASHA": Arm("tpe", "asha"),
    "TPE + ASHA, trial batches of 4": Arm("tpe", "asha", 4),
    "TPE + ASHA, trial batches of 16": Arm("tpe", "asha", 16),
}
SHARE = 0.01
GRACE = 4
"""Epochs before a trial can be stopped: a third of twelve, as 15 of a study's 40."""


def main() -> None:
    """Search with every arm under every seed, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=OUT)
    parser.add_argument("--space", default="adaptive_compression", help="the space it was recorded over")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--at-a-time", type=int, default=4)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = Table(pd.read_parquet(args.table), load_space(args.space))
    print(f"{len(table.points)} recorded trials, {len(table.feasible)} feasible, sought: {sorted(table.best)}")
    found = {arm: [search(table, ARMS[arm], seed, args.at_a_time) for seed in range(args.seeds)] for arm in ARMS}
    print("\n| arm | trials, median (min to max) | not found | epochs, median | trials / random's (95 %) |")
    print("|---|--:|--:|--:|--:|")
    for arm, runs in found.items():
        trials, epochs = [run.trials for run in runs], [run.epochs for run in runs]
        ratios = [ours / theirs.trials for ours, theirs in zip(trials, found["random"], strict=True)]
        effect = "" if arm == "random" else str(mean_ratio(ratios).effect(0.95))
        missed = sum(not run.found for run in runs)
        span = f"{np.median(trials):g} ({min(trials)} to {max(trials)})"
        print(f"| {arm} | {span} | {missed} | {np.median(epochs):g} | {effect} |")


def mean_ratio(ratios: Sequence[float]) -> Contrast:
    """Their geometric mean with its error."""
    logs = np.log(ratios)
    return Contrast(float(logs.mean()), float(logs.std(ddof=1)) / len(logs) ** 0.5, len(logs) - 1, len(logs))


class Table:
    """Recorded trials, and which of them answers for a config that was not."""

    def __init__(self, rows: pd.DataFrame, space: SearchSpace):
        self.space = space
        self.curves = {point: list(curve(part)) for point, part in rows.groupby("point")}
        params = rows.drop_duplicates("point").set_index("point")["params"]
        self.points = [point for point in self.curves if point != BASELINE]
        self.epochs = int(rows["epoch"].max())
        self.baseline = cast(Metrics, self.curves[BASELINE][-1].metrics)
        self._places = np.array([self._place(json.loads(params[point])) for point in self.points])
        self.feasible = [point for point in self.points if self._is_feasible(point)]
        ranked = sorted(self.feasible, key=lambda point: self.curves[point][-1].metrics.log10_imbalance)
        self.best = set(ranked[: max(1, round(SHARE * len(self.points)))])

    def _is_feasible(self, point: int) -> bool:
        epoch, _, metrics = self.curves[point][-1]
        if metrics is None or epoch < self.epochs or metrics.collapsed:
            return False
        return all(value <= 0 for value in guards(metrics, self.baseline, GuardsConfig()).values())

    def _place(self, params: dict[str, Any]) -> list[float]:
        """Return a point as coordinates; a choice has one for each value, so that two that differ are 1 apart."""
        place: list[float] = []
        for name, parameter in self.space.parameters.items():
            if isinstance(parameter, Categorical):
                place += [0.5**0.5 * (params.get(name) == choice) for choice in parameter.choices]
            else:
                counts = name in params
                place += [
                    to_unit(parameter, params[name]) if counts else 0.5,
                    1.0 * (not counts and bool(parameter.when)),
                ]
        return place

    def nearest(self, params: dict[str, Any]) -> int:
        """Return the recorded point that answers for `params`."""
        return self.points[int(((self._places - np.array(self._place(params))) ** 2).sum(axis=1).argmin())]


class Said(NamedTuple):
    """A recorded report: epochs with pilots and without, and the metrics, None where training diverged."""

    epoch: int
    trained: int
    metrics: Metrics | None


def curve(rows: pd.DataFrame) -> Iterator[Said]:
    """Yield the reports of a trial."""
    for row in rows.sort_values("epoch").to_dict("records"):
        known = {name: row[name] for name in KEPT}
        metrics = None if np.isnan(known["fvu_worst"]) else metrics_of(known)
        yield Said(int(row["epoch"]), int(row["trained"]), metrics)


def metrics_of(known: dict[str, float]) -> Metrics:
    """Return recorded figures as metrics; what is not read here is not a number."""
    names = Metrics.__dataclass_fields__
    blank = {name: {} if name in ("fvu", "mse_raw", "reference_fvu") else float("nan") for name in names}
    words = {"split": "validation", "worst_category": "", "codebooks": [], "imbalance": 10 ** known["log10_imbalance"]}
    return Metrics(**cast(Any, {**blank, **words, **known, "collapsed": int(known["collapsed"])}))


class SimulatedPack:
    """A trial batch whose members read their recorded reports, one after every other, in the place of a worker."""

    def __init__(self, table: Table, study: optuna.Study, given: dict[str, Any]):
        self.config = given
        self.temporary_state = SimpleNamespace(
            ray_actor=SimpleNamespace(stop_members=SimpleNamespace(remote=self.stop))
        )
        self.points = {number: table.nearest(study.trials[number].params) for number in numbers_of(self)}
        self.reports = {number: iter(table.curves[point]) for number, point in self.points.items()}
        self.epochs, self.last = dict.fromkeys(self.points, 0), table.epochs
        self.final: list[dict[str, Any]] = []

    def stop(self, numbers: Sequence[int]) -> None:
        """Take out members; the next report tells of it."""
        self.config["stopped"].extend(numbers)
        for number in numbers:
            self.reports.pop(number, None)

    def step(self) -> tuple[dict[str, Any], int]:
        """Return the next report of every member that goes on, and the epochs that it took."""
        said, spent, stopped = [], 0, list(self.config["stopped"])
        for number, reports in list(self.reports.items()):
            one = next(reports)
            spent += one.epoch - self.epochs[number]
            self.epochs[number] = one.epoch
            over = one.epoch == self.last
            if over or one.metrics is None:
                self.final.append({"number": number, **message(one, over)})
                del self.reports[number]
            else:
                said.append({"number": number, **message(one, over)})
        said = said or self.final  # what has ended is told with the last, as by a worker
        return {"reports": said, "stopped": stopped}, spent


def search(table: Table, arm: Arm, seed: int, at_a_time: int) -> SimpleNamespace:
    """Search until one of the best is found; return `trials`, `epochs` spent, and whether one was `found`."""
    study = optuna.create_study()
    config = StudyConfig(name="s", sampler=cast(Any, arm.sampler), seed=seed)
    study.sampler = make_sampler(config)
    rule = make_scheduler(StoppingConfig(rule=cast(Any, arm.rule), grace=GRACE), table.epochs, [])
    scheduler, controller = PerTrialScheduler(lambda _: rule), cast(Any, None)
    ended: list[TrialRecord] = []
    plan = SearchPlan(
        space=table.space,
        base=TrialConfig(),
        target=len(table.points),
        baseline=Baseline(table.baseline),
        guards=config.guards,
        resources=Resources(at_a_time, 1, 0),
        members=arm.members,
    )
    events = StudyEvents()
    events.on_trial_end = ended.append  # type: ignore[method-assign]
    searcher = AskTellSearcher(study, plan, events)
    running: dict[str, SimulatedPack] = {}
    spent = 0
    for step in range(10**9):
        while len(running) < at_a_time and isinstance(
            given := searcher.suggest(name := f"{step}.{len(running)}"), dict
        ):
            running[name] = SimulatedPack(table, study, given)
            scheduler.on_trial_add(controller, running[name])
        if not running:  # every trial asked for has ended, or most of them failed
            return SimpleNamespace(trials=len(table.points), epochs=spent, found=False)
        for name, trial_batch in list(running.items()):
            result, took = trial_batch.step()
            spent += took
            stopped = scheduler.on_trial_result(controller, trial_batch, result) == TrialScheduler.STOP
            if not stopped:
                searcher.on_trial_result(name, result)
            if stopped or result["reports"] is trial_batch.final:
                del running[name]
                searcher.on_trial_complete(name, result)
        if any(record.state == "complete" and table.nearest(record.params) in table.best for record in ended):
            return SimpleNamespace(trials=len(ended), epochs=spent, found=True)
    raise AssertionError


def message(said: Said, over: bool) -> dict[str, Any]:
    """Return a report as a worker makes it."""
    if said.metrics is None:
        failure = {"kind": "non-finite", "reason": f"diverged in epoch {said.epoch}", "own": True}
        return {"status": "failed", "seconds": 0.0, **failure}
    row = {"epoch": said.epoch, "trained": said.trained, "fvu_worst": said.metrics.fvu_worst}
    return {
        **row,
        "seconds": 0.0,
        "status": "complete" if over else "running",
        "curve": json.dumps(row),
        "metrics": json.dumps(said.metrics.__dict__),
    }


if __name__ == "__main__":
    main()
