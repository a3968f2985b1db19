"""Whole studies on a real Ray cluster with eight logical GPUs, with real storage, and with the real core."""

from __future__ import annotations

import io
import json
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import ray
from optuna.samplers import BaseSampler
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from rich.console import Console

import results.export.command
import spinlock_dist.train
from results.records.optuna_trials import read_journal
from results.records.stored_tables import read_tables
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, read_records
from spinlock_dist.categories.mapping import read_names
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import load_config
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError
from spinlock_dist.interop.spinlock_reader import load_spinlock_yaml
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.training.snapshot import Snapshots
from study import StudyConfig, dashboard, run
from study.cluster.resources import ResourceError
from study.config import ClusterConfig, StoppingConfig, UntilConfig
from study.events import StudyEvents
from study.launch_options import make_parser, study_config
from study.monitor.prometheus import METRICS
from study.monitor.registry import MONITORS, MonitorSetup
from study.pipeline import dry_run
from study.search.schedulers import PerTrialScheduler
from study.status import read_status, read_story
from study.worker.actor import trial_actor
from study.worker.retry_policy import StudyError
from tests.toy import ONE_PARAMETER, make_toy, small_study, write_dataset

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "table.parquet")


@pytest.fixture
def config(tmp_path: Path, dataset: Path) -> StudyConfig:
    return small_study(tmp_path, dataset)


# ---------------------------------------------------------------- the real core


def first_fold(record: TrialRecord) -> dict[str, float]:
    """What a trial had at the end of its first fold, on which a single training trains as well."""
    row = record.learning_curve[-1]
    return {name: value for name, value in row.items() if name in record.metrics.scalars()}


def test_a_study_exports_configs_that_train_to_the_same_metrics(config, tmp_path, capsys):
    result = run(config)
    assert [record.state for record in result.search] == ["complete"] * 4
    assert result.best is not None
    assert result.best.metrics is not None

    exported = result.folder.best / "config.yaml"
    assert spinlock_dist.train.main(["--config", str(exported), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert Metrics.from_json(again["validation"]).scalars() == pytest.approx(first_fold(result.best), rel=1e-4)
    assert again["fingerprint"] == result.folder.read_description()["fingerprint"]

    another = next(record for record in result.search if record is not result.best)
    options = ["--runs", config.runs, "--trial", str(another.number), "--force"]
    assert results.export.command.main([config.name, *options, "--out", str(tmp_path / "another.yaml")]) == 0
    capsys.readouterr()
    assert spinlock_dist.train.main(["--config", str(tmp_path / "another.yaml"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert Metrics.from_json(again["validation"]).scalars() == pytest.approx(first_fold(another), rel=1e-4)

    theirs, _ = load_spinlock_yaml(result.folder.best / "spinlock.yaml")
    assert theirs.training.learning_rate == load_config(exported).training.learning_rate
    assert read_names(str(result.folder.best / "spinlock.categories.json")) == read_names(str(result.folder.categories))

    assert {path.name for path in (result.folder.best / "checkpoint").iterdir()} == {"model.safetensors", "meta.json"}
    assert result.conclusion in (result.folder.best / "README.md").read_text()
    report = result.folder.report.read_text()
    for name, of in (("best", result.best.arm.replace("-", " ")), ("baseline", "the uniform baseline")):
        assert f'href="diagnosis/{name}.html"' in report
        assert f"Diagnosis of {of} of study" in result.folder.diagnosis(name).read_text()
    assert {record.test.split for record in result.finals if record.test} == {"test"}
    assert {"baseline", "plain-feedback"} < {record.arm for record in result.finals}
    found = json.loads(result.folder.verdict.read_text())
    assert found["exported"] == result.best.arm
    assert found["verification"]["repeated"]
    assert found["conclusion"] == result.conclusion
    table = pd.read_parquet(result.folder.trials)
    assert table["phase"].tolist() == [
        *["baseline"],
        *["search"] * 4,
        *["final"] * len(result.finals),
        *["verification"] * 2,
    ]
    epochs = pd.read_parquet(result.folder.curves).groupby("phase")["epoch"].max().to_dict()
    assert epochs == {"baseline": 18, "search": 18, "final": 6, "verification": 18}  # three folds, but in finals


# ---------------------------------------------------------------- stand-ins for the core


def devices(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.glob("tune/checkpoints/trial-*/device")]


def meet_another(folder: Path):
    """Return a fault that lets no trial finish before a second one has begun, so that two hold a GPU at once.

    Trainings of the baseline, which are no trials, neither wait nor count.
    """

    def wait(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy == "uniform":
            return
        (folder / f"{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while len(list(folder.iterdir())) < 2:
            assert time.monotonic() < deadline, "no second trial began"
            time.sleep(0.05)

    return wait


def test_eight_gpus_are_shared_out_one_a_trial(config, tmp_path):
    (meeting := tmp_path / "meeting").mkdir()
    config = config.model_copy(update={"trials": 8, "baseline_seeds": 2, "cluster": ClusterConfig(gpus=8)})
    result = run(config, objective=make_toy(meet_another(meeting)))
    assert len(result.search) == 8
    assert set(devices(result.folder.path)) <= {str(gpu) for gpu in range(8)}
    assert len(set(devices(result.folder.path))) > 1
    hardware = result.folder.read_description()["hardware"]
    assert (hardware["trials_at_a_time"], hardware["gpus_per_trial"]) == (8, 1)


class TrialsOf(Searcher):
    """Suggests trials until `processes` have run some, at most 200."""

    def __init__(self, folder: Path, processes: int):
        super().__init__()
        self.folder, self.processes, self.count = folder, processes, 0

    def suggest(self, trial_id: str) -> dict | str:  # type: ignore[override]
        self.count += 1
        if len(list(self.folder.iterdir())) == self.processes or self.count > 200:
            return Searcher.FINISHED
        shown = {"trial_batch": f"trial-{self.count}", "shown": f"trial-{self.count}", "worker": self.count}
        return {**shown, "members": [], "folder": str(self.folder)}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        assert not error


def test_processes_come_up_while_trials_end_faster_than_they_start(tmp_path):
    def sign(config: dict) -> None:
        (Path(config["folder"]) / f"{os.getpid()}").touch()
        time.sleep(0.1)
        tune.report({})

    (folder := tmp_path / "processes").mkdir()
    room = tune.PlacementGroupFactory([{"CPU": 1}])
    search = tune.TuneConfig(
        search_alg=TrialsOf(folder, 4),
        scheduler=PerTrialScheduler(lambda _: FIFOScheduler()),
        num_samples=-1,
        max_concurrent_trials=4,
        reuse_actors=True,
    )
    place = tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0)
    tune.Tuner(trial_actor(sign, lambda _: room, "s"), tune_config=search, run_config=place).fit()
    assert len(list(folder.iterdir())) == 4


def test_more_gpus_than_the_cluster_has_are_refused(config):
    with pytest.raises(ResourceError, match="--gpus 9: the cluster has 8 GPUs"):
        run(config.model_copy(update={"cluster": ClusterConfig(gpus=9)}), objective=make_toy())


def test_a_dry_run_tells_the_cost_and_leaves_nothing(config):
    plan = dry_run(config, objective=make_toy())
    assert [phase.trainings for phase in plan.phases] == [3, 12, 16, 6]
    assert (plan.concurrent, plan.phases[1].epochs) == (2, 72)
    assert plan.pilot.checkpoint == len("unset") or plan.pilot.checkpoint == 0  # the stand-in's
    assert not Path(config.runs).exists()


def test_poor_trials_are_stopped_and_a_resumed_study_keeps_what_it_has(config, dataset):
    config = config.model_copy(update={"trials": 8, "epochs": 8, "stopping": StoppingConfig(grace=2, reduction=2)})
    first = run(config, objective=make_toy())
    assert {record.state for record in first.search} == {"complete", "pruned"}
    assert all(len(record.curve) == record.epochs < 8 for record in first.search if record.state == "pruned")
    assert first.best is not None
    assert first.best.state == "complete"
    assert set(devices(first.folder.path)) == {""}  # without a GPU of its own a trial sees none

    with pytest.raises(ConfigError, match="--resume, or choose another --name"):
        run(config, objective=make_toy())
    more = run(config.model_copy(update={"trials": 12}), resume=True, objective=make_toy())
    assert more.search[:8] == first.search
    assert more.baseline == first.baseline
    assert [record.number for record in more.search] == list(range(1, 13))  # trial 0 is the baseline
    assert len(read_journal(more.folder.journal).trials) == 13

    content = dataset.read_bytes()
    try:
        pd.read_parquet(dataset)[::-1].to_parquet(dataset)
        with pytest.raises(ConfigError, match="started on other data"):
            run(config, resume=True, objective=make_toy())
    finally:
        dataset.write_bytes(content)


def test_a_study_can_keep_its_trials_in_a_database(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config.model_copy(update={"storage": "sqlite:///trials.db"})
    first = run(config, objective=make_toy())
    assert not first.folder.journal.exists()
    assert read_tables(first.folder)[1]
    more = run(config.model_copy(update={"trials": 6}), resume=True, objective=make_toy())
    assert more.search[: len(first.search)] == first.search
    assert read_status(more.folder)["states"] == {"complete": 6}
    assert "ended" in read_story(more.folder, 1)[0]
    with pytest.raises(SpinlockError, match="optuna-dashboard"):
        dashboard.main(["s", "--runs", config.runs])


def outcome_of(record: TrialRecord) -> dict:
    """Return a record without what is another at every run: when, where and how long."""
    return {**record.to_json(), "attempts": len(record.attempts), "seconds": None, "node": None}


def test_a_front_is_found_shown_and_exported_from_its_end_of_least_imbalance(config, tmp_path):
    (workers := tmp_path / "workers").mkdir()

    def sign(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if ray.get_runtime_context().get_actor_id():  # a trial of the search; other trainings are tasks
            (workers / f"{os.getpid()}").touch()

    update = {"objective": "pareto", "sampler": "nsga2", "trials": 6, "deterministic": True, "tensorboard": True}
    config = config.model_copy(update=update)
    result = run(config, objective=make_toy(sign))
    assert [record.state for record in result.search] == ["complete"] * 6
    assert 1 <= len(list(workers.iterdir())) <= 2  # processes outlive their trials
    assert result.front
    assert result.front[0].metrics.imbalance == min(
        record.metrics.imbalance for record in result.search if record.feasible and record.metrics
    )
    table = pd.read_parquet(result.folder.trials)
    assert table.loc[table["front"], "number"].tolist() == sorted(record.number for record in result.front)
    status = read_status(result.folder)
    assert status["front"] == [record.number for record in result.front]

    assert len(list(result.folder.tensorboard.glob("trial-*/events*"))) == 6

    again = study_config(make_parser().parse_args(["--config", str(result.folder.description), "--name", "again"]))
    repeated = run(again, objective=make_toy())  # study.yaml as it stands runs the same study
    assert [outcome_of(record) for record in repeated.search] == [outcome_of(record) for record in result.search]

    warm = run(config.model_copy(update={"name": "t", "trials": 2, "warm_start": ("s",)}), objective=make_toy())
    table = pd.read_parquet(warm.folder.trials)
    assert table["phase"].value_counts().loc[["warm", "search"]].tolist() == [6, 2]
    assert set(table.loc[table["phase"] == "warm", "arm"]) == {f"s/{record.arm}" for record in result.search}
    assert [record.number for record in warm.search] == [7, 8]  # after the baseline and six trials that it did not run
    assert read_status(warm.folder)["states"] == {"complete": 2}
    assert exported("t") >= {f"ray_{name}" for name in METRICS if "best" not in name}


def exported(study: str) -> set[str]:
    """Return the names of a study's metrics as Prometheus would find them; Ray hands them on every few seconds."""
    address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(address, timeout=10) as answer:
            if found := set(re.findall(rf'^(\w+){{.*study="{study}"', answer.read().decode(), re.MULTILINE)):
                return found
        time.sleep(0.5)
    return set()


def test_a_limit_ends_the_search_now_and_after_a_resume_and_an_extension_goes_on(config):
    until = UntilConfig(imbalance=100)  # which any feasible trial reaches
    config = config.model_copy(update={"trials": 30, "until": until})
    first = run(config, objective=make_toy())
    assert 1 <= len(first.search) < 30
    assert re.fullmatch(r"trial \d+ has imbalance .*x, the target is 100x", first.ended)
    status = read_status(first.folder)
    assert (status["state"], status["ended"]) == ("finished", first.ended)
    again = run(config, resume=True, objective=make_toy())
    assert (again.search, again.finals, again.ended) == (first.search, first.finals, first.ended)

    arguments = ["--extend", "+2", "--name", "s", "--runs", config.runs]
    more = study_config(make_parser().parse_args(arguments))
    assert (more.trials, more.until.since) == (len(first.search) + 2, len(first.search))
    with_more_trials = run(
        more.model_copy(update={"until": UntilConfig(since=len(first.search))}), resume=True, objective=make_toy()
    )
    assert with_more_trials.search[: len(first.search)] == first.search
    assert len(with_more_trials.search) == more.trials
    assert with_more_trials.ended == f"all {more.trials} trials are done"
    assert with_more_trials.folder.read_description()["config"]["trials"] == more.trials


class BestSecond(BaseSampler):
    """Suggests the best settings as the second trial, and ever worse ones after it."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return 0.5 if trial.number == 1 else 1 + 0.01 * trial.number


def test_a_trial_that_improves_after_the_limit_was_reached_is_the_best_of_a_search_that_has_ended(config, tmp_path):
    """It ran when three others in a row had brought none; the study ended as if it had been interrupted."""

    def slow(config, epoch, snapshots):
        if config.compression.sharpness == 0.5:
            time.sleep(2)

    (tmp_path / "one.yaml").write_text(ONE_PARAMETER)
    until = UntilConfig(no_improvement=3)
    config = config.model_copy(update={"space": str(tmp_path / "one.yaml"), "trials": 30, "until": until})
    first = run(config, objective=make_toy(slow), sampler=BestSecond())
    assert first.ended == "3 trials in a row brought no improvement"
    assert len(first.search) < 30
    assert first.best is not None and first.best.number == 1
    again = run(config, objective=make_toy(slow), sampler=BestSecond(), resume=True)
    assert (again.search, again.ended) == (first.search, first.ended)


class Failing(StudyEvents):
    """A monitor that fails when the first trial ends."""

    def on_trial_end(self, record: TrialRecord) -> None:
        raise ConnectionError("no route to host")


def make_failing(setup: MonitorSetup) -> Failing:
    return Failing()


def test_a_monitor_that_fails_does_not_end_the_study(config):
    console = Console(file=io.StringIO(), width=200)
    MONITORS.register("failing", f"{__name__}:make_failing")
    try:
        result = run(config, objective=make_toy(), console=console)
    finally:
        MONITORS.unregister("failing")
    assert [record.state for record in result.search] == ["complete"] * 4
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("monitor")]
    assert lines == ["monitor 'failing' failed and is left out from now on: ConnectionError: no route to host"]


def test_finals_that_were_cut_off_go_on_with_what_is_missing(config):
    def break_second(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.seed == 2:
            raise ZeroDivisionError("a bug")

    def took(records: Sequence[TrialRecord]) -> dict[tuple[str, int], float]:
        return {(record.arm, record.number): record.seconds for record in records}

    with pytest.raises(Exception, match="a bug"):
        run(config, objective=make_toy(break_second))
    folder = StudyFolder(Path(config.runs) / "s")
    kept = took(read_records(folder.records("final")))
    assert {number for _, number in kept} == {0}
    assert read_status(folder)["phase"] == "finals"

    result = run(config, resume=True, objective=make_toy())
    assert took(result.finals) == took(result.finals) | kept  # to the second: nothing was trained twice
    arms = {record.arm for record in result.finals}
    assert len(arms) >= 3
    assert len(result.finals) == 2 * len(arms)
    status = read_status(folder)
    assert (status["state"], set(status["verdict"]) < arms) == ("finished", True)


def test_a_tournament_gives_every_strategy_the_same_and_is_not_run_twice(config):
    config = config.model_copy(update={"trials": 2, "tournament": True})
    first = run(config, objective=make_toy())
    assert {row.arm for row in first.standings} == {"uniform", "balanced", "random"}
    assert {row.trials for row in first.standings} == {2}
    assert {record.arm.split("/")[0] for record in first.search} == {"uniform", "balanced", "random"}
    assert first.best in first.search
    assert (first.folder.best / "checkpoint" / "device").exists()
    assert {finding.arm for finding in first.verdict.findings} < {record.arm for record in first.finals}
    status = read_status(first.folder)
    assert (status["state"], status["trials"], status["states"]) == ("finished", 6, {"complete": 6})
    with pytest.raises(ConfigError, match="each strategy of a tournament has a trial 1"):
        read_story(first.folder, 1)
    with pytest.raises(ConfigError, match="--resume --trials N"):
        study_config(make_parser().parse_args(["--extend", "+2", "--name", "s", "--runs", config.runs]))
    table = pd.read_parquet(first.folder.trials)
    assert table["levelling.worst_helped"].notna().all()

    def refuse(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        raise ZeroDivisionError("trained again")

    again = run(config, resume=True, objective=make_toy(refuse))
    assert again.standings == first.standings
    assert again.conclusion == first.conclusion


def test_a_study_in_which_every_trial_fails_is_given_up(config):
    def fault(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.rule == "spinlock" or config.compression.sharpness != 1.0:
            raise ZeroDivisionError("a bug")

    with pytest.raises(StudyError, match=r"of the last . trials failed.*a bug"):
        run(config.model_copy(update={"trials": 40}), objective=make_toy(fault))


def test_a_study_in_which_all_but_the_baseline_diverges_ends_without_an_export(config):
    def diverge(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy != "uniform":
            raise DivergedError(epoch, "total")

    space = Path(config.space).with_name("one.yaml")
    space.write_text(ONE_PARAMETER)
    config = config.model_copy(update={"space": str(space)})
    result = run(config, objective=make_toy(diverge))
    assert {record.state for record in result.search} == {"diverged"}
    assert result.best is None and not result.folder.best.exists() and result.folder.report.exists()
    told = "Plain feedback is not exported: diverged in epoch 1: total is not finite"
    assert told in result.conclusion and told in result.folder.report.read_text()
    assert run(config, objective=make_toy(diverge), resume=True).conclusion == result.conclusion


@pytest.mark.parametrize(
    "lack", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_baseline_that_memory_is_short_for_ends_the_study_in_a_line(config, lack):
    def fail(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        raise lack

    with pytest.raises(
        StudyError, match=r"^baseline-baseline-0 failed: (Mem|Runt).*--max-concurrent.*--resume$"
    ) as ended:
        run(config, objective=make_toy(fail))
    assert "\n" not in str(ended.value) and ": ;" not in str(ended.value)


def test_a_baseline_that_diverges_ends_the_study(config):
    def fault(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        raise DivergedError(epoch, "reconstruction")

    with pytest.raises(StudyError, match="uniform baseline diverged in epoch 1: reconstruction"):
        run(config, objective=make_toy(fault))
