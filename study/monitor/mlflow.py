"""MLflow: an experiment named after the study, in it a run for the study, and its trainings as that run's children.

`MLFLOW_TRACKING_URI` says where; without it the study's folder is the store. `MLFLOW_EXPERIMENT_NAME` names another
experiment, so that several studies are in one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from results.analysis.tables import figures
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord
from spinlock_dist.config_file import dump_config
from study.events import Ending
from study.monitor.registry import MonitorSetup
from study.monitor.tracking import TrackedRun, TrackerKind, Tracking, final_files

STUDY_TAG, KEY_TAG, PARENT_TAG = "spinlock.study", "spinlock.run", "mlflow.parentRunId"
OF_STUDY = "study"
"""Key of the study's own run."""
MOST = 1000
"""Metrics in one request; MLflow refuses more."""
STATUS: dict[Ending, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def address(folder: StudyFolder) -> str:
    """The tracking URI of a study."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.mlflow.resolve()}/mlflow.db"


class MlflowTracker:
    """Stores the runs of one study in MLflow. Those that a lost driver left half are deleted and stored anew."""

    def __init__(self, folder: StudyFolder, study_id: str):
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it tells the terminal how it makes its tables
        own = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder.mlflow / "artifacts").resolve().as_uri()
        if own is not None:
            folder.mlflow.mkdir(parents=True, exist_ok=True)
        self._study_id = study_id
        self._client = MlflowClient(address(folder))
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or folder.name
        known = self._client.get_experiment_by_name(name)
        self._experiment = known.experiment_id if known else self._client.create_experiment(name, own)
        runs = {run.data.tags[KEY_TAG]: run for run in self._found()}
        self._parent = runs[OF_STUDY].info.run_id if OF_STUDY in runs else self._created(OF_STUDY, folder.name, {})
        self._client.update_run(self._parent, status="RUNNING")
        children = {key: run.info for key, run in runs.items() if key != OF_STUDY}
        for run in children.values():
            if run.status == "RUNNING":
                self._client.delete_run(run.run_id)
        self._sent = {key for key, run in children.items() if run.status != "RUNNING"}

    def sent(self) -> set[str]:
        """Keys of the runs that it has, whole."""
        return self._sent

    def send(self, run: TrackedRun) -> None:
        """Store a run: figures by name, its curve under `curve/`, and all its settings as `config.yaml`."""
        record = run.record
        began = _milliseconds(record.attempts[0].began) if record.attempts else _now() - int(1000 * record.seconds)
        tags = {name: str(value) for name, value in run.labels.items()} | {PARENT_TAG: self._parent}
        run_id = self._created(run.key, run.key, tags, began)
        self._client.log_batch(run_id, params=[_param(name, value) for name, value in run.params.items()])
        ended = began + int(1000 * record.seconds)
        metrics = [_metric(name, value, ended, record.epochs) for name, value in run.figures.items()]
        for row in record.curve:
            when, epoch = began + int(1000 * row.get("seconds", 0)), int(row["epoch"])
            metrics += [_metric(f"curve/{name}", value, when, epoch) for name, value in row.items() if name != "epoch"]
        self._log(run_id, metrics)
        if run.config is not None:
            self._client.log_text(run_id, dump_config(run.config), "config.yaml")
        status = "FAILED" if run.has_failed else "KILLED" if record.state == "pruned" else "FINISHED"
        self._client.set_terminated(run_id, status, ended)

    def close(self, study: StudyRecord, ending: Ending) -> None:
        """Store the conclusion, the best trial's figures and the files of the study."""
        if ending == "finished" and study.verdict is not None:
            self._client.set_tag(self._parent, "mlflow.note.content", study.verdict.get("conclusion", ""))
            if study.best is not None:
                self._client.set_tag(self._parent, "best", study.best.arm)
                self._log(
                    self._parent, [_metric(name, value, _now(), 0) for name, value in figures(study.best).items()]
                )
            for path in final_files(study):
                folder = path.parent.relative_to(study.folder.path).as_posix()
                self._client.log_artifact(self._parent, str(path), None if folder == "." else folder)
        self._client.set_terminated(self._parent, STATUS[ending])

    def _found(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            query = f"tags.`{STUDY_TAG}` = '{self._study_id}'"
            page = self._client.search_runs([self._experiment], query, max_results=MOST, page_token=token)
            runs += page
            if not (token := page.token):
                return runs

    def _created(self, key: str, name: str, tags: Mapping[str, str], began: int | None = None) -> str:
        own = {STUDY_TAG: self._study_id, KEY_TAG: key}
        run = self._client.create_run(self._experiment, began, {**tags, **own}, name)
        return str(run.info.run_id)

    def _log(self, run_id: str, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), MOST):
            self._client.log_batch(run_id, metrics=metrics[start : start + MOST])


def _metric(name: str, value: float, when: int, epoch: int) -> Any:
    from mlflow.entities import Metric

    plain = "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in name)  # all that MLflow takes
    return Metric(plain, float(value), when, epoch)


def _param(name: str, value: object) -> Any:
    from mlflow.entities import Param

    return Param(name, str(value))


def _now() -> int:
    return int(1000 * datetime.now(UTC).timestamp())


def _milliseconds(moment: str) -> int:
    return int(1000 * datetime.fromisoformat(moment).timestamp())


MLFLOW = TrackerKind(title="MLflow", package="mlflow", address=address, open=MlflowTracker)


def make_mlflow(setup: MonitorSetup) -> Tracking | None:
    """What sends to MLflow, if the study asks for it."""
    return Tracking(MLFLOW) if "mlflow" in setup.config.track else None
