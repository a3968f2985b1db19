"""Studies that are sent to MLflow and Weights & Biases: to local stores, with the real libraries, and read back."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import load_config
from spinlock_dist.errors import DivergedError
from spinlock_dist.training.snapshot import Snapshots
from study import StudyConfig, run
from study.config import StoppingConfig
from study.monitor.tracking import run_key
from study.search.storage import open_journal
from tests.toy import ONE_PARAMETER, make_toy, small_study, write_dataset
from tests.trackers import Sent, read_mlflow, read_wandb

pytestmark = pytest.mark.usefixtures("shared_ray")

STATES = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED"}
"""How MLflow calls the end of a run."""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "table.parquet")


@pytest.fixture(autouse=True)
def local_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


def check(folder: StudyFolder) -> tuple[dict[str, Sent], dict[str, Sent]]:
    """Compare what both trackers have with the study's own tables, figure by figure; return it."""
    trials, curves = pd.read_parquet(folder.trials), pd.read_parquet(folder.curves)
    found = []
    for stored in (read_mlflow(folder), read_wandb(folder)):
        assert {len(runs) for runs in stored.values()} == {1}, "a run is there twice"
        runs = {key: sent for key, [sent] in stored.items()}
        named = {run_key_of(row): row for row in trials.to_dict("records")}
        assert runs.keys() == {*named, "study"}
        for key, row in named.items():
            same_figures(runs[key].figures, row)
            name = ["phase", "arm", "number"]
            of_trial = curves[(curves[name] == [row[each] for each in name]).all(axis=1)]
            for figure in ("imbalance", "fvu_worst", "loss.total"):
                expected = dict(zip(of_trial["epoch"], of_trial[figure], strict=True))
                assert runs[key].curve.get(figure, {}) == pytest.approx(expected)
        found.append(runs)
    return found[0], found[1]


def run_key_of(row: Mapping[str, Any]) -> str:
    from results.records.trial_record import TrialRecord

    return run_key(TrialRecord.from_json(json.loads(row["record"])))


def same_figures(sent: Mapping[str, float], row: Mapping[str, Any]) -> None:
    columns = {name for name in row if name.startswith(("estimate.", "fvu.", "test.", "guard."))}
    columns |= {"imbalance", "fvu_worst", "fvu_mean", "utilization"}
    known = {name: row[name] for name in columns if row.get(name) is not None and not math.isnan(row[name])}
    assert {name: sent.get(name) for name in known} == pytest.approx(known)


def test_a_study_of_the_real_core_is_there_as_its_tables_have_it(tmp_path, dataset):
    result = run(small_study(tmp_path, dataset, track=("mlflow", "wandb")))
    mlflow, wandb = check(result.folder)
    conclusion = result.conclusion
    assert mlflow["study"].labels["mlflow.note.content"] == wandb["study"].figures["conclusion"] == conclusion
    assert result.best is not None
    for runs in (mlflow, wandb):
        assert {"verdict.json", "report.html", "study.yaml", "trials.parquet"} <= runs["study"].files
    for record in result.search:
        sent, theirs = mlflow[run_key(record)], wandb[run_key(record)]
        assert {name: sent.labels[name] for name in record.params} == {k: str(v) for k, v in record.params.items()}
        assert (sent.labels["feasible"], sent.state) == (str(record.feasible), "FINISHED")
        assert theirs.labels["compression"]["strategy"] == record.params["compression.strategy"]
        assert (theirs.labels["trial"]["feasible"], theirs.state) == (record.feasible, "0")
    for record in result.finals:
        assert mlflow[run_key(record)].figures["test.imbalance"] == pytest.approx(record.test.imbalance)
    store = result.folder.mlflow / "artifacts"
    assert {load_config(path).compression.strategy for path in store.rglob("config.yaml")} >= {"uniform", "feedback"}


def test_states_are_told_as_they_are_and_a_resumed_study_has_each_run_once(tmp_path, dataset):
    def fault(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy == "balanced" and config.compression.sharpness < 0.8 and epoch == 3:
            raise DivergedError(epoch, "reconstruction")

    config = small_study(
        tmp_path,
        dataset,
        ONE_PARAMETER,
        trials=10,
        track=("mlflow", "wandb"),
        epochs=8,
        stopping=StoppingConfig(grace=2, reduction=2),
    )
    first = run(config.model_copy(update={"track": ("mlflow",)}), objective=make_toy(fault))
    assert {record.state for record in first.search} == {"complete", "pruned", "diverged"}
    leave_half(first.folder)
    open_journal(first.folder.journal, config.name).enqueue_trial({"compression.sharpness": 0.8})

    more = run(config.model_copy(update={"trials": 12}), resume=True, objective=make_toy(fault))
    mlflow, wandb = check(more.folder)
    assert len(more.search) == 12
    assert first.best is not None and more.best is not None and more.best.arm != first.best.arm
    assert {record.arm for record in first.finals} <= {record.arm for record in more.finals}
    verified = {record.arm for record in read_study(more.folder).phase("verification")}
    assert verified == {first.best.arm, more.best.arm}, "what was trained of the earlier best is lost"
    for record in more.search:
        sent, theirs = mlflow[run_key(record)], wandb[run_key(record)]
        assert (sent.labels["state"], sent.state) == (record.state, STATES[record.state])
        assert theirs.state == str(int(record.state == "diverged"))
        assert {"search", record.state} <= set(theirs.labels["tags"])
        if record.state == "diverged":
            assert sent.labels["reason"] == theirs.labels["trial"]["reason"] == record.reason

    again = run(config.model_copy(update={"trials": 12}), resume=True, objective=make_toy(fault))
    check(again.folder)


def leave_half(folder: StudyFolder) -> None:
    """Leave in MLflow what a driver leaves that is killed while it sends: a run that has begun, without figures."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.mlflow.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name(folder.name).experiment_id
    [whole] = client.search_runs([experiment], "tags.`spinlock.run` = 'trial-0003'")
    kept = {name: whole.data.tags[name] for name in ("spinlock.run", "spinlock.study", "mlflow.parentRunId")}
    client.delete_run(whole.info.run_id)
    client.create_run(experiment, tags=kept)


def test_a_tracker_that_cannot_be_reached_is_named_and_the_study_goes_on(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = io.StringIO()
    config: StudyConfig = small_study(tmp_path, dataset, track=("mlflow",))
    result = run(config, objective=make_toy(), console=Console(file=told, width=300))
    assert len(result.search) == 4 and result.folder.report.exists()
    assert told.getvalue().count("monitor 'mlflow' failed and is left out from now on") == 1
