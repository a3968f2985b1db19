"""Recorded trials: what a searcher makes of a record is what it makes of the trial."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from results.analysis.pareto import told_values
from search_spaces import load_space
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.out_of_fold import run_folds
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome
from study.config import GuardsConfig
from study.search.constraints import Baseline, guards, penalty
from tests.synthetic import write_table

SPACE = load_space("quick")
EASY = {"training.epochs": 4, "training.evaluate_every": 2, "model.hidden": 8, "prepare.categories.count": 3}


@pytest.fixture
def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """`record_trials` and `samplers`, which import their neighbours by name."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("record_trials"), importlib.import_module("samplers")


def trained(config: TrialConfig, data: PreparedData) -> Metrics:
    """The figures of a trial as a worker makes them."""
    [outcome] = run_folds([config], data)
    assert isinstance(outcome, TrialOutcome)
    return outcome.validation


def test_a_record_says_what_the_trial_would(benchmark: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    record_trials, samplers = benchmark
    base = record_trials.base_config(SPACE, str(write_table(tmp_path / "t.npz"))).with_overrides(EASY)
    data = prepare(base.prepare)
    baselines = {point: record_trials.baseline_config(base, point) for point in record_trials.BASELINES}
    first = record_trials.record(baselines[-1], data)[-1].validation
    points = dict(enumerate(record_trials.design(SPACE, 4)))
    configs = {point: base.with_overrides(params) for point, params in points.items()} | baselines
    rows = [
        row
        for point, config in configs.items()
        for row in record_trials.rows_of(point, points.get(point, {}), record_trials.record(config, data), first)
    ]
    record_trials.compact(pd.DataFrame(rows)).to_parquet(tmp_path / "t.parquet")
    table = samplers.Table(pd.read_parquet(tmp_path / "t.parquet"), SPACE)

    assert table.params == points
    baseline = Baseline(trained(configs[-1], data), (trained(configs[-2], data),))
    for point, params in points.items():
        assert table.nearest(params) == point
        *_, last = table.curves[point]
        assert [said.epoch for said in table.curves[point]] == [2, 4]
        expected, ours = trained(configs[point], data), last.metrics
        assert ours.fvu == pytest.approx(expected.fvu, rel=1e-3)
        config = GuardsConfig()
        assert guards(ours, table.baseline, config) == pytest.approx(guards(expected, baseline, config), abs=2e-3)
        owed = [penalty(metrics, by, config) for metrics, by in ((ours, table.baseline), (expected, baseline))]
        values = [told_values(metrics, each, 1) for metrics, each in zip((ours, expected), owed, strict=True)]
        assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_the_tables_that_come_along_have_as_many_trials_as_is_said(benchmark: tuple[ModuleType, ModuleType]) -> None:
    _, samplers = benchmark
    for path in sorted(samplers.DATA.glob("*.parquet")):
        table = samplers.Table(pd.read_parquet(path), load_space("adaptive_compression"))
        assert len(table.points) >= 256, path
        assert len(table.best) >= round(samplers.SHARE * len(table.points))
        assert max(map(table.value.get, table.best)) < min(table.value[p] for p in table.points if p not in table.best)
        assert all(table.space.to_config(TrialConfig(), each) for each in table.params.values())
