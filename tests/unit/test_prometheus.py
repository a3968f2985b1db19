"""What Prometheus, Grafana and TensorBoard are told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from results.records.settings import TrialSettings
from results.records.study_folder import StudyFolder
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.events import SearchStart, TrialReport
from study.monitor.prometheus import METRICS, PrometheusExporter
from study.monitor.tensorboard import TensorBoardWriter, check_tensorboard


def test_the_grafana_dashboard_and_the_page_name_what_is_exported(repository: Path):
    dashboard = (repository / "deploy" / "grafana.json").read_text()
    queries = [target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]]
    named = {name for query in queries for name in re.findall(r"\w+(?=\{)", query)}
    assert named == {f"ray_{name}" for name in METRICS}
    assert set(re.findall(r"ray_spinlock\w+", dashboard)) == named
    page = (repository / "docs" / "watching.md").read_text()
    assert set(re.findall(r"ray_spinlock\w+", page)) <= named


def test_the_metrics_are_those_of_the_study(monkeypatch, make_metrics, make_record):
    values: dict = {}

    def gauge(name: str, description: str, tag_keys: tuple[str, ...]) -> SimpleNamespace:
        def set_it(value: float, tags: dict) -> None:
            assert set(tags) == set(tag_keys)
            values[name, tags.get("state", "")] = value

        return SimpleNamespace(set=set_it)

    monkeypatch.setattr("study.monitor.prometheus.Gauge", gauge)  # one needs a cluster to hold a value
    metrics = PrometheusExporter()
    metrics.on_search_start(
        SearchStart(
            study="s",
            folder=StudyFolder(Path()),
            target=9,
            earlier=(make_record(1, 0.4, 0.1),),
            epochs=40,
            slots=lambda: 4,
            members=2,
            baseline=make_metrics(0.6, 0.1),
            settings=TrialSettings({}),
            addresses={},
        )
    )
    metrics.on_trial_report(TrialReport(4, {"epoch": 10, "fvu_worst": 0.5}))
    metrics.on_running([[4, 5], [6]])
    metrics.on_trial_end(make_record(2, 0.2, 0.1))
    metrics.on_trial_end(make_record(3, state="failed"))
    assert {name for name, _ in values} == set(METRICS)
    assert values["spinlock_study_trials", "running"] == 3
    assert values["spinlock_study_trials", "complete"] == 2
    assert values["spinlock_study_trials", "failed"] == 1
    assert values["spinlock_study_best_imbalance", ""] == pytest.approx(2)
    assert values["spinlock_study_baseline_imbalance", ""] == pytest.approx(6)
    assert values["spinlock_study_busy_share", ""] == 0.5
    assert values["spinlock_study_epochs_per_second", ""] > 0
    before = dict(values)
    values.clear()  # Ray forgets what is not set anew
    monkeypatch.setattr("study.monitor.prometheus.REFRESH_SECONDS", 0)
    metrics.on_running([[4, 5], [6]])
    assert values.keys() == before.keys()
    metrics.on_search_end()
    assert values["spinlock_study_trials", "running"] == 0


def test_tensorboard_files_hold_curves_and_settings(tmp_path, make_metrics, make_record):
    files = TensorBoardWriter()
    files.on_search_start(
        SearchStart(
            study="s",
            folder=StudyFolder(tmp_path),
            target=9,
            earlier=(),
            epochs=10,
            slots=lambda: 1,
            members=1,
            baseline=make_metrics(0.6, 0.1),
            settings=TrialSettings({}),
            addresses={},
        )
    )
    for epoch in (5, 10):
        row = {"epoch": epoch, "seconds": 1.0, "loss.total": 1 / epoch, "fvu_worst": 0.5}
        files.on_trial_report(TrialReport(7, row))
    params = {"compression.strategy": "balanced", "compression.sharpness": 1.5}
    files.on_trial_end(make_record(7, 0.4, 0.1, params=params))
    files.on_trial_end(make_record(8, state="failed"))
    files.on_search_end()
    [folder] = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "trial-0007"
    [file] = folder.iterdir()
    found = [(value.tag, event.step) for event in events(file) for value in event.summary.value]
    assert {("loss/total", 5), ("loss/total", 10), ("fvu_worst", 10)} <= set(found)
    assert b"balanced" in file.read_bytes()


def events(path: Path) -> list:
    """Read a TensorBoard file: records of a length in 8 bytes, its checksum in 4, the event, its checksum in 4."""
    from tensorboardX.proto.event_pb2 import Event

    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("study.monitor.tensorboard.find_spec", lambda _: None)
    check_tensorboard(StudyConfig(name="n"))
    with pytest.raises(ConfigError, match="pip install tensorboardX"):
        check_tensorboard(StudyConfig(name="n", tensorboard=True))
