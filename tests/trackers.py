"""Reads back what a study has sent to MLflow and to offline Weights & Biases, with their own libraries and formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.records.study_folder import StudyFolder

BLOCK, HEAD = 32768, 7
"""Bytes of a block of a W&B file, a LevelDB log, and of what stands before the file and each part of a record."""


@dataclass
class Sent:
    """A run as it was read back."""

    state: str = ""
    labels: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    curve: dict[str, dict[int, float]] = field(default_factory=dict)
    """By figure and epoch."""
    files: set[str] = field(default_factory=set)


def read_mlflow(folder: StudyFolder) -> dict[str, list[Sent]]:
    """Return the runs in a study's own MLflow store by key; there should be one of each."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.mlflow.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name(folder.name)
    found: dict[str, list[Sent]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        sent = Sent(state=run.info.status, labels={**run.data.params, **run.data.tags})
        for name, value in run.data.metrics.items():
            if name.startswith("curve/"):
                history = client.get_metric_history(run.info.run_id, name)
                assert len({point.step for point in history}) == len(history), f"{name} has an epoch twice"
                sent.curve[name.removeprefix("curve/")] = {point.step: point.value for point in history}
            else:
                sent.figures[name] = value
        sent.files = {file.path for file in client.list_artifacts(run.info.run_id)}
        found.setdefault(run.data.tags["spinlock.run"], []).append(sent)
    return found


def read_wandb(folder: StudyFolder) -> dict[str, list[Sent]]:
    """Return the offline runs of a study by key, with the names of figures as they were."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, list[Sent]] = {}
    for path in folder.wandb.glob("offline-run-*/*.wandb"):
        sent, key = Sent(files={file.name for file in (path.parent / "files").iterdir()}), ""
        for content in records(path):
            record = wandb_internal_pb2.Record.FromString(content)
            if record.HasField("run"):
                assert record.run.run_group == folder.name
                key = record.run.run_id.partition("-")[2]
                sent.labels |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
                sent.labels |= {"tags": list(record.run.tags)}
            elif record.HasField("history"):
                row = {name(item): json.loads(item.value_json) for item in record.history.item}
                for figure in row.keys() - {"_step", "_runtime", "_timestamp"}:
                    curve = sent.curve.setdefault(figure.removeprefix("curve/").replace("/", "."), {})
                    curve[record.history.step.num] = row[figure]
            elif record.HasField("summary"):
                given = {name(item): json.loads(item.value_json) for item in record.summary.update}
                sent.figures |= {figure.replace("/", "."): value for figure, value in given.items()}
            elif record.HasField("exit"):
                sent.state = str(record.exit.exit_code)
        found.setdefault(key, []).append(sent)
    return found


def name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def records(path: Path) -> list[bytes]:
    """Return the records in a W&B file, which are stored in parts: whole 1, first 2, middle 3, last 4."""
    content, place, parts, found = path.read_bytes(), HEAD, b"", []
    while place + HEAD <= len(content):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):
            found.append(parts)
            parts = b""
    return found
