"""The real core on a space that includes collapsing configs: none of them is best, though some have a low imbalance."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from results.analysis.trial_summary import count_outcomes, outcomes_in_words
from results.records.optuna_trials import read_search
from results.records.trial_record import TrialRecord, feasible_records
from search_spaces import Categorical, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from study.cluster.resources import Resources
from study.config import GuardsConfig, StoppingConfig, StudyConfig
from study.samplers.build import make_sampler
from study.search.constraints import Baseline
from study.search.schedulers import PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan
from study.search.storage import open_journal
from tests.synthetic import write_table

EPOCHS, TRIALS = 12, 16

SPACE = SearchSpace(
    name="degenerate",
    description="",
    parameters={
        "loss.commitment": Categorical(choices=(3.0, 1e5)),
        "model.initialization": Categorical(choices=("data", "random")),
        "compression.max_codes": Categorical(choices=(2, 1024)),
    },
)


class Stopped(Exception):
    pass


def message(number: int, metrics: EpochMetrics) -> dict:
    validation = metrics.validation
    row = {"epoch": metrics.epoch, "seconds": metrics.seconds, **validation.scalars()}
    status = "complete" if metrics.finished else "running"
    said = {"fvu_worst": validation.fvu_worst, "seconds": metrics.seconds, "status": status}
    report = {
        "number": number,
        "epoch": metrics.epoch,
        "trained": metrics.trained,
        **said,
        "curve": json.dumps(row),
        "metrics": json.dumps(asdict(validation)),
    }
    return {"reports": [report], "stopped": []}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Metrics, list[TrialRecord]]:
    """Baseline and trials of a search, one after the other."""
    folder = tmp_path_factory.mktemp("degeneracy")
    base = TrialConfig(
        prepare={"dataset": str(write_table(folder / "table.npz")), "categories": {"count": 3}},
        training={"epochs": EPOCHS, "evaluate_every": 2, "batch_size": 64, "device": "cpu"}
        | {"learning_rate": 1e-3, "schedule": "constant"},
        quantizer={"beam": 1},  # at these settings some of the trials collapse
        model={"hidden": 8},
    )
    data = prepare(base.prepare)
    baseline = run_trial(base, data).validation
    study = open_journal(Path(folder) / "optuna.journal", "degenerate")
    study.sampler = make_sampler(StudyConfig(name="n"))
    resources = Resources(concurrent=1, cpus=1, gpus=0)
    plan = SearchPlan(
        space=SPACE, base=base, target=TRIALS, baseline=Baseline(baseline), guards=GuardsConfig(), resources=resources
    )
    searcher = AskTellSearcher(study, plan)
    common = make_scheduler(StoppingConfig(grace=4), EPOCHS, [])
    stopper = PerTrialScheduler(lambda _: common)
    while isinstance(given := searcher.suggest("trial"), dict):
        trial = SimpleNamespace(config=given)
        stopper.on_trial_add(None, trial)
        [member] = given["members"]
        last: list[dict] = []

        def report(metrics: EpochMetrics, trial=trial, last=last, number=member["number"]) -> None:
            last[:] = [message(number, metrics)]
            if stopper.on_trial_result(None, trial, last[0]) == TrialScheduler.STOP:
                raise Stopped
            searcher.on_trial_result("trial", last[0])

        with suppress(Stopped):
            run_trial(TrialConfig.model_validate_json(member["config"]), data, report)
        searcher.on_trial_complete("trial", last[0])
    return baseline, read_search(study)


def test_what_collapses_is_told_counted_and_never_best(found: tuple[Metrics, list[TrialRecord]]) -> None:
    baseline, records = found
    assert len(records) == TRIALS
    collapsed = [record for record in records if record.kind == "collapsed codebook"]
    healthy = [record for record in records if not record.kind]
    assert collapsed
    assert healthy
    assert min(record.metrics.imbalance for record in collapsed) < baseline.imbalance  # what would have fooled a search
    assert not any(record.feasible for record in collapsed)
    assert set(map(id, feasible_records(records))) <= set(map(id, healthy))
    assert count_outcomes(records)["collapsed"] == len(collapsed)
    assert f"{len(collapsed)} collapsed and cannot be the best." in outcomes_in_words(records)


def test_stopping_early_does_not_favour_what_collapses(found: tuple[Metrics, list[TrialRecord]]) -> None:
    _, records = found

    def stopped(collapsed: bool) -> float:
        states = [record.state for record in records if (record.kind == "collapsed codebook") == collapsed]
        return states.count("pruned") / len(states)

    assert stopped(collapsed=True) >= stopped(collapsed=False)
