"""What a sampler finds in how many trials and seconds, on tables of recorded trials.

    make bench NAME=samplers
    make bench NAME=samplers ARGS="--table benchmarks/data/cells.parquet --arms tpe composite --seeds 10"

Searcher, samplers and early stopping are those of a study. A suggestion is answered by the recorded trial nearest to
it among those with the same choices, report for report and second for second, so that every search meets the same
landscape and costs no training. `--workers` train at a time, on a clock of their own that the recorded seconds drive:
a sampler is asked when one of them is free, knowing what had ended by then. Its own time does not count.

Sought is one of the best 1 % of the table, or what is as good: feasible, of least log10 imbalance with its penalty.
Trials count as they end, stopped ones too; a search that finds none ends after `--most` trials and counts that many.
Regret is the best value so far over the table's best, as a ratio of imbalances. No arm begins with the initial trials
of a study, unless `--initial` is given. With `+prior` after its name a sampler knows the trials recorded on the other
tables: `composite` as in a study, another by beginning with settings drawn as `composite` would draw them. `+misled` is
the same with every score negated, the worst that a prior can be.

Ratios are geometric means over seeds, seed by seed, since arms that draw their first trials at random draw the same;
with 95 % intervals from resampled seeds. Distance: numbers by their scale in [0, 1].
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import optuna
import pandas as pd
from measure import keep, tell_machine
from ray.tune.schedulers import TrialScheduler
from record_trials import BASELINES, PAIRED
from units import to_unit

from results.records.trial_record import TrialRecord
from search_spaces import Categorical, SearchSpace, load_space
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Estimate, Metrics
from spinlock_dist.seeding import derive_seed
from study.cluster.resources import Resources
from study.config import GuardsConfig, StoppingConfig, StudyConfig
from study.events import StudyEvents
from study.samplers.build import make_sampler
from study.samplers.recorded_prior import NEWEST, Recorded, RecordedPrior, read_recorded, recorded_prior
from study.search.constraints import Baseline, guards, penalty
from study.search.initial_trials import initial_points
from study.search.schedulers import NeverStop, PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan
from study.worker.actor import numbers_of

DATA = Path(__file__).parent / "data"
SAMPLERS = ("random", "tpe", "gp", "composite", "tpe+prior", "composite+prior")
RULES = ("none", "asha")
SHARE = 0.01
STARTUP = 5
"""Settings that a sampler which takes no prior begins with instead."""
SHOWN_AT = (5, 10, 20)
"""Trials after which regret is shown."""


def main() -> None:
    """Search with every arm under every seed, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=DATA / "operators.parquet")
    parser.add_argument("--space", default="adaptive_compression", help="the space it was recorded over")
    parser.add_argument("--arms", nargs="+", default=SAMPLERS, help="samplers, by name")
    parser.add_argument("--rules", nargs="+", default=RULES, help="early stopping")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--least", type=int, default=SHOWN_AT[-1], help="trials of a search at least")
    parser.add_argument("--most", type=int, default=512)
    parser.add_argument("--initial", action="store_true", help="begin with the initial trials of a study")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = tell_machine()
    table = Table(pd.read_parquet(args.table), load_space(args.space))
    others = read_recorded(NEWEST).without([args.table.stem])
    print(f"{len(table.points)} recorded trials, {len(table.feasible)} feasible, sought: {len(table.best)}", flush=True)
    found: dict[str, list[Search]] = {}
    for rule in args.rules:
        for sampler in args.arms:
            name = sampler if rule == "none" else f"{sampler} with {rule}"
            plan = Plan(sampler, rule, args.workers, args.least, args.most, args.initial, others)
            found[name] = [search(table, plan, seed) for seed in range(args.seeds)]
            print(line(name, found[name]), flush=True)
    print_tables(found)
    kept = {name: [each._asdict() for each in runs] for name, runs in found.items()}
    keep(f"samplers-{args.table.stem}", {"settings": {**vars(args), "table": str(args.table)}, "searches": kept}, known)


class Plan(NamedTuple):
    """How one searches."""

    sampler: str
    rule: str
    workers: int
    least: int
    most: int
    initial: bool = False
    """Whether it begins with the initial trials of a study."""
    recorded: Recorded | None = None
    """On other tables."""

    def prior(self, space: SearchSpace) -> RecordedPrior | None:
        """What the sampler is told beforehand."""
        known = self.sampler.partition("+")[2]
        if self.recorded is None or not known:
            return None
        sign = -1 if known == "misled" else 1
        scores = {name: [sign * each for each in scores] for name, scores in self.recorded.scores.items()}
        return recorded_prior(replace(self.recorded, scores=scores), space, TrialConfig())


class Search(NamedTuple):
    """How a search went: what had been found after each trial, and when."""

    found: bool
    trials: int
    """Until one of the best was found."""
    seconds: float
    """The same, of the simulated clock."""
    clock: list[float]
    """When each trial ended."""
    regret: list[float]
    """The best value so far above the table's best, in powers of ten; not a number before the first feasible trial."""
    own: float
    """Seconds that the sampler took for a suggestion, the mean."""


# ---------------------------------------------------------------- tables


def line(name: str, runs: Sequence[Search]) -> str:
    """A search's arm as a line."""
    return f"{name}: {np.median([run.trials for run in runs]):g} trials, {np.mean([r.own for r in runs]):.2f} s each"


def print_tables(found: dict[str, list[Search]]) -> None:
    """Print trials and seconds to the best, ratios to random and to TPE under the same rule, and regret."""
    print("\n| arm | trials to the best 1 % | s | not found | trials / random's | trials / TPE's | s / TPE's |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for arm, runs in found.items():
        sampler, _, rule = arm.partition(" with ")
        rest = f" with {rule}" if rule else ""
        cells = [
            span([run.trials for run in runs]),
            span([run.seconds for run in runs]),
            str(sum(not run.found for run in runs)),
            *(
                ratio(runs, found.get(other + rest), what) if other != sampler else ""
                for other, what in (("random", "trials"), ("tpe", "trials"), ("tpe", "seconds"))
            ),
        ]
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"\n| regret, median over seeds | {' | '.join(f'{at} trials' for at in SHOWN_AT)} |")
    print("|---|" + "--:|" * len(SHOWN_AT))
    for arm, runs in found.items():
        at = [np.nanmedian([10 ** run.regret[min(at, len(run.regret)) - 1] for run in runs]) for at in SHOWN_AT]
        print(f"| {arm} | {' | '.join(f'{each:.3f}' for each in at)} |")


def span(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def ratio(ours: Sequence[Search], theirs: Sequence[Search] | None, what: str) -> str:
    """The geometric mean over seeds of `what` over another arm's, and its 95 % interval over resampled seeds."""
    if theirs is None:
        return ""
    logs = np.log([max(getattr(run, what), 1e-9) for run in ours]) - np.log(
        [max(getattr(r, what), 1e-9) for r in theirs]
    )
    rng = np.random.default_rng(0)
    low, high = np.exp(np.quantile(rng.choice(logs, (10_000, len(logs))).mean(axis=1), [0.025, 0.975]))
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"


# ---------------------------------------------------------------- recorded trials


class Said(NamedTuple):
    """A recorded report: epoch, seconds so far, and the metrics, None where training diverged."""

    epoch: int
    seconds: float
    metrics: Metrics | None


class Table:
    """Recorded trials, and which of them answers for a config that was not."""

    def __init__(self, rows: pd.DataFrame, space: SearchSpace):
        self.space = space
        ordered = rows.sort_values(["point", "epoch"])
        self.curves = {int(point): reports_of(part) for point, part in ordered.groupby("point")}
        params = ordered.drop_duplicates("point").set_index("point")["params"]
        self.params = {point: json.loads(params[point]) for point in self.curves if point not in BASELINES}
        self.points = list(self.params)
        self.epochs = int(rows["epoch"].max())
        first, second = (cast(Metrics, self.curves[point][-1].metrics) for point in BASELINES)
        self.baseline = Baseline(first, (second,))
        self._places = np.array([self._place(self.params[point]) for point in self.points])
        self._choices = [self._choice(self.params[point]) for point in self.points]
        self.value = {point: self._told(point) for point in self.points}
        self.feasible = sorted((p for p in self.points if np.isfinite(self.value[p])), key=lambda p: self.value[p])
        least = self.value[self.feasible[max(1, round(SHARE * len(self.points))) - 1]]
        self.best = {point for point in self.feasible if self.value[point] <= least}

    def _told(self, point: int) -> float:
        """What a sampler is told of a point; infinite if it is infeasible."""
        metrics = self.curves[point][-1].metrics
        if metrics is None or metrics.collapsed:
            return float("inf")
        if any(excess > 0 for excess in guards(metrics, self.baseline, GuardsConfig()).values()):
            return float("inf")
        return float(np.log10(metrics.estimate("imbalance")) + penalty(metrics, self.baseline, GuardsConfig()))

    def _choice(self, params: dict[str, Any]) -> tuple[Any, ...]:
        choices = (name for name, each in self.space.parameters.items() if isinstance(each, Categorical))
        return tuple(params.get(name) for name in choices)

    def _place(self, params: dict[str, Any]) -> list[float]:
        numbers = {n: each for n, each in self.space.parameters.items() if not isinstance(each, Categorical)}
        return [to_unit(each, params[name]) if name in params else 0.5 for name, each in numbers.items()]

    def nearest(self, params: dict[str, Any]) -> int:
        """Return the recorded point that answers for `params`."""
        asked = self._choice(params)
        same = np.array([each == asked for each in self._choices])
        apart = ((self._places - np.array(self._place(params))) ** 2).sum(axis=1)
        return self.points[int(np.where(same, apart, np.inf).argmin())]


def reports_of(rows: pd.DataFrame) -> list[Said]:
    """The reports of a trial."""
    return [
        Said(int(row["epoch"]), float(row["seconds"]), None if np.isnan(row["imbalance"]) else metrics_of(row))
        for row in rows.to_dict("records")
    ]


def metrics_of(row: dict[str, Any]) -> Metrics:
    """Return recorded figures as metrics; what is not read here is not a number.

    Two resamples stand for all: their difference has the recorded standard error, that of the baseline is zero.
    """
    fvu = {name.removeprefix("fvu."): float(row[name]) for name in row if name.startswith("fvu.")}
    estimates = {
        name: Estimate(value=row[name], low=row.get(f"{name}.low", row[name]), high=row[name])
        for name in ("imbalance", *PAIRED)
    }
    apart = {name: float(row[f"rows_error.{name}"]) / 2**0.5 for name in PAIRED}
    names = Metrics.__dataclass_fields__
    blank: dict[str, Any] = {name: float("nan") for name in names}
    blank |= {name: {} for name in ("mse_raw", "reference_fvu", "bits", "bits_carried", "extra")}
    worst = max(fvu, key=lambda name: fvu[name])
    known = {
        "split": "validation",
        "fvu": fvu,
        "worst_category": worst,
        "fvu_worst": fvu[worst],
        "fvu_mean": row["fvu_mean"],
        "imbalance": row["imbalance"],
        "estimates": estimates,
        "resampled": {name: [each, -each] for name, each in apart.items()},
        "collapsed": int(row["collapsed"]),
        "utilization": row["utilization"],
        "perplexity_ratio": row["perplexity_ratio"],
        "bits_per_sample": row["bits"],
        "codebooks": [],
    }
    return Metrics(**{**blank, **known})


# ---------------------------------------------------------------- a search


class SimulatedTrial:
    """A trial that reads its recorded reports, in the place of a worker."""

    def __init__(self, table: Table, study: optuna.Study, given: dict[str, Any]):
        self.config = given
        [self.number] = numbers_of(self)
        self.point = table.nearest(study.get_trials(deepcopy=False)[self.number].params)
        self._reports, self._last = iter(table.curves[self.point]), table.epochs
        self._seconds = 0.0
        self.next, self.takes = self._read()

    def _read(self) -> tuple[Said, float]:
        said = next(self._reports)
        takes, self._seconds = said.seconds - self._seconds, said.seconds
        return said, takes

    def step(self) -> tuple[dict[str, Any], bool]:
        """Return the report that is due, and whether it is the last."""
        said = self.next
        over = said.epoch == self._last or said.metrics is None
        if not over:
            self.next, self.takes = self._read()
        return {"reports": [{"number": self.number, **message(said, over)}], "stopped": []}, over


def message(said: Said, over: bool) -> dict[str, Any]:
    """Return a report as a worker makes it."""
    if said.metrics is None:
        failure = {"kind": "non-finite", "reason": f"diverged in epoch {said.epoch}", "own": True}
        return {"status": "failed", "seconds": said.seconds, **failure}
    row = {"epoch": said.epoch, "trained": said.epoch, "fvu_worst": said.metrics.fvu_worst}
    return {
        **row,
        "seconds": said.seconds,
        "status": "complete" if over else "running",
        "curve": json.dumps(row),
        "metrics": json.dumps(said.metrics.__dict__, default=lambda each: each.__dict__),
    }


def search(table: Table, plan: Plan, seed: int) -> Search:
    """Search until one of the best is found, `plan.least` trials at least and `plan.most` at most."""
    study = optuna.create_study()
    name = plan.sampler.partition("+")[0]
    config = StudyConfig(name="s", sampler=name, seed=seed)
    prior = plan.prior(table.space)
    study.sampler = make_sampler(config, prior=prior)
    initial = initial_points(table.space, TrialConfig())[1:] if plan.initial else []
    for point in (*initial, *([] if prior is None or name == "composite" else drawn(prior, config))):
        study.enqueue_trial(point)
    rule = make_scheduler(StoppingConfig(rule=cast(Any, plan.rule)), table.epochs, [])
    scheduler = PerTrialScheduler(lambda number: NeverStop(rule) if number < len(initial) else rule)
    controller = cast(Any, None)
    ended: list[TrialRecord] = []
    events = StudyEvents()
    events.on_trial_end = ended.append  # type: ignore[method-assign]
    searcher = AskTellSearcher(
        study,
        SearchPlan(
            space=table.space,
            base=TrialConfig(),
            target=plan.most,
            baseline=table.baseline,
            guards=config.guards,
            resources=Resources(plan.workers, 1, 0),
        ),
        events,
    )
    queue: list[tuple[float, int, str, SimulatedTrial]] = []
    now, own, asked, found = 0.0, 0.0, 0, Found(table)
    while True:
        while len(queue) < plan.workers:
            began = time.perf_counter()
            given = searcher.suggest(f"t{asked}")
            own += time.perf_counter() - began
            if not isinstance(given, dict):
                break
            trial = SimulatedTrial(table, study, given)
            scheduler.on_trial_add(controller, cast(Any, trial))
            heapq.heappush(queue, (now + trial.takes, asked, f"t{asked}", trial))
            asked += 1
        if not queue:
            break
        now, order, name, trial = heapq.heappop(queue)
        result, over = trial.step()
        stopped = scheduler.on_trial_result(controller, cast(Any, trial), result) == TrialScheduler.STOP
        if over or stopped:
            searcher.on_trial_complete(name, result)
            found.note(ended[-1], now)
        else:
            searcher.on_trial_result(name, result)
            heapq.heappush(queue, (now + trial.takes, order, name, trial))
        if found.at and len(ended) >= plan.least:
            break
    trials, seconds = found.at or (plan.most, now)
    return Search(found.at is not None, trials, seconds, found.clock, found.regret, own / max(asked, 1))


def drawn(prior: RecordedPrior, config: StudyConfig) -> list[dict[str, Any]]:
    """Settings to begin with, for a sampler that takes none."""
    found: list[dict[str, Any]] = []
    for number in range(STARTUP):
        found.append(prior.first(np.random.default_rng(derive_seed(config.seed, "sampler", number) % 2**32), found))
    return found


class Found:
    """What a search has found so far."""

    def __init__(self, table: Table):
        self.table = table
        self.clock: list[float] = []
        self.regret: list[float] = []
        self.at: tuple[int, float] | None = None
        """Trials and seconds until one of the best was found."""

    def note(self, record: TrialRecord, now: float) -> None:
        """Take in a trial that ended."""
        regret = self.regret[-1] if self.regret else float("nan")
        if record.state == "complete":
            point = self.table.nearest(record.params)
            new = self.table.value[point] - self.table.value[self.table.feasible[0]]
            regret = float(np.fmin(regret, new)) if np.isfinite(new) else regret
            if point in self.table.best and self.at is None:
                self.at = len(self.clock) + 1, now
        self.clock.append(now)
        self.regret.append(regret)


if __name__ == "__main__":
    main()
