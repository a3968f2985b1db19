"""A trial of a study: each config trained once a fold, and scored on the rows of all folds together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import pooled
from spinlock_dist.prepare import PreparedData
from spinlock_dist.run import TrialOutcome, run_members
from spinlock_dist.training.snapshot import Snapshots
from spinlock_dist.training.trainer import MembersReport

Outcome = TrialOutcome | SpinlockError | None


def run_folds(
    configs: Sequence[TrialConfig],
    data: PreparedData,
    report: MembersReport = lambda _: (),
    snapshots: Snapshots | None = None,
) -> list[Outcome]:
    """Train configs in lock step on every fold of the data, each row scored by the model that has not seen it.

    The first fold reports as it trains, so that what is poor ends before the others are trained; these report nothing
    but whether to go on. A last report has the figures of all rows, and the epochs of all folds.

    Returns what `run_members` returns: outcomes are those of the first fold, with `validation` from all folds. A
    config that fails in any fold ends with that error. With one fold this is `run_members`.
    """
    folds = len(data.split.folds)
    if folds == 1:
        return run_members(configs, data, report, snapshots)
    last: dict[int, EpochMetrics] = {}

    def report_first(made: Mapping[int, EpochMetrics]) -> set[int]:
        last.update(made)
        return set(report({member: replace(metrics, finished=False) for member, metrics in made.items()}))

    by_fold = [run_members(configs, data.fold(0), report_first, snapshots)]
    for fold in range(1, folds):
        part = snapshots.part(f"fold-{fold}") if snapshots is not None else None
        by_fold.append(_later_fold(by_fold[-1], configs, data.fold(fold), report, part))
    found: list[Outcome] = []
    ended: dict[int, EpochMetrics] = {}
    for member, of_folds in enumerate(zip(*by_fold, strict=True)):
        trained = [outcome for outcome in of_folds if isinstance(outcome, TrialOutcome)]
        if len(trained) < folds:
            found.append(of_folds[-1])
            continue
        outcome = _together(trained)
        found.append(outcome)
        ended[member] = _last(last[member], trained, outcome.validation)
    report(ended)
    return found


def _later_fold(
    before: Sequence[Outcome],
    configs: Sequence[TrialConfig],
    data: PreparedData,
    report: MembersReport,
    snapshots: Snapshots | None,
) -> list[Outcome]:
    """The outcomes on a fold after the first, of the configs that completed the fold before; of the others, as there.

    It is evaluated at its end alone, unless early stopping has to see more.
    """
    going = [member for member, outcome in enumerate(before) if isinstance(outcome, TrialOutcome)]
    if not going:
        return list(before)
    given = [
        config
        if config.training.patience
        else config.with_overrides({"training.evaluate_every": config.training.epochs})
        for config in (configs[member] for member in going)
    ]

    def to_stop(_: Mapping[int, EpochMetrics]) -> list[int]:
        return [going.index(member) for member in report({}) if member in going]

    found = list(before)
    for member, outcome in zip(going, run_members(given, data, to_stop, snapshots), strict=True):
        found[member] = outcome
    return found


def _together(trained: Sequence[TrialOutcome]) -> TrialOutcome:
    """The outcome of the first fold with the figures of all."""
    first = trained[0]
    of_all = score(pooled([outcome.reconstructed("validation") for outcome in trained]))
    dead_codes = math.ceil(of_all.dead_codes / len(trained))
    of_all = replace(of_all, codebooks=first.validation.codebooks, dead_codes=dead_codes)
    return replace(first, validation=of_all, first_fold=first.validation)


def _last(report: EpochMetrics, trained: Sequence[TrialOutcome], of_all: Metrics) -> EpochMetrics:
    """The report of a trial that was trained on all folds; `report` is the last of the first."""
    epochs = sum(outcome.epochs for outcome in trained)
    seconds = sum(outcome.seconds for outcome in trained)
    return replace(
        report, epoch=epochs, trained=epochs, finished=True, validation=of_all, folds=len(trained), seconds=seconds
    )
