"""Whole studies on a real Ray cluster with eight logical GPUs, with real storage, and with the real core."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import ray

import spinlock_dist.train
from results.study_folder import StudyFolder
from results.trial_record import TrialRecord, feasible_records, read_curves, read_records, read_trials
from search_spaces import load_space
from spinlock_dist.config import PrepareConfig, TrainingConfig, TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.training.snapshot import State
from study import StudyConfig, run
from study.command_line import make_parser, study_config
from study.config import ClusterConfig, FinalsConfig, GuardsConfig, StoppingConfig, UntilConfig
from study.faults import StudyError
from study.journal import read_journal
from study.phases import dry_run
from study.resources import ResourceError
from study.status import read_status, read_story

SPACE = """
description: A space for tests, in which the baseline itself is a trial
parameters:
  compression.strategy: {type: categorical, choices: [uniform, balanced]}
  compression.rule: {type: categorical, choices: [graded, spinlock]}
  compression.sharpness: {type: float, low: 0.5, high: 2.0}
"""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster of eight CPUs and eight GPUs, which are logical: Ray hands them out, torch finds none."""
    ray.init(address="local", num_cpus=8, num_gpus=8, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows of twelve columns in three correlated groups of different difficulty."""
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(300, 3))
    noise = rng.normal(size=(300, 12)) * np.repeat([0.1, 0.5, 1.0], 4)
    path = tmp_path_factory.mktemp("data") / "table.parquet"
    names = [f"summary::f{index}" for index in range(12)]
    pd.DataFrame(np.repeat(sources, 4, axis=1) + noise, columns=names).to_parquet(path)
    return path


@pytest.fixture
def config(tmp_path: Path, dataset: Path) -> StudyConfig:
    (tmp_path / "space.yaml").write_text(SPACE)
    return StudyConfig(
        name="s",
        runs=str(tmp_path / "runs"),
        space=str(tmp_path / "space.yaml"),
        trials=4,
        baseline_seeds=1,
        finals=FinalsConfig(replicates=2, seeds=2),
        base=TrialConfig(
            prepare=PrepareConfig(dataset=str(dataset)),
            training=TrainingConfig(epochs=6, evaluate_every=2, batch_size=64),
        ),
        guards=GuardsConfig(utilization=0, perplexity_ratio=0),
        cluster=ClusterConfig(gpus=0, max_concurrent=2),
    )


# ---------------------------------------------------------------- the real core


def test_a_study_exports_a_config_that_trains_to_the_same_metrics(config, capsys):
    result = run(config)
    assert [record.state for record in result.search] == ["complete"] * 4
    assert result.best is not None
    assert result.best.metrics is not None

    exported = result.folder.best / "config.yaml"
    assert spinlock_dist.train.main(["--config", str(exported), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert Metrics(**again["validation"]).scalars() == pytest.approx(result.best.metrics.scalars(), rel=1e-4)
    assert again["fingerprint"] == result.folder.read_description()["fingerprint"]

    assert {path.name for path in (result.folder.best / "checkpoint").iterdir()} == {"model.safetensors", "meta.json"}
    assert result.conclusion in (result.folder.best / "README.md").read_text()
    assert [record.test.split for record in result.finals if record.test] == ["test"] * 4
    assert result.best in result.search
    found = json.loads(result.folder.verdict.read_text())
    assert found["exported"] == result.best.arm
    assert found["verification"]["repeated"]
    assert found["conclusion"] == result.conclusion
    table = read_trials(result.folder.trials)
    assert table["phase"].tolist() == ["baseline"] + ["search"] * 4 + ["final"] * 4
    assert read_curves(result.folder.curves).groupby(["phase", "arm"])["epoch"].max().eq(6).all()


# ---------------------------------------------------------------- stand-ins for the core


def make_toy(fault=None):
    """Return an objective that reports a falling curve at once; `fault(config, epoch)` may do its worst.

    Functions and classes in here are pickled by value: workers cannot import a test module.
    """

    def score(config: TrialConfig, epoch: int, split: str = "validation") -> Metrics:
        offset = 0.0 if config.compression.strategy == "uniform" else 0.1 * (config.compression.sharpness - 1.2)
        worst, best = 0.5 + offset + 0.4 / epoch, 0.1
        healthy = dict.fromkeys(("utilization", "utilization_split", "perplexity_ratio", "entropy_ratio"), 1.0)
        return Metrics(
            split=split,
            fvu={"a": worst, "b": best},
            mse_raw={"a": worst, "b": best},
            fvu_mean=(worst + best) / 2,
            fvu_worst=worst,
            worst_category="a",
            imbalance=worst / best,
            log10_imbalance=float(np.log10(worst / best)),
            imbalance_by_chance=1.0,
            imbalance_raw=worst / best,
            gini=0.0,
            collapsed=0,
            dead_codes=0,
            bits_per_sample=10.0,
            reference_fvu={"a": worst, "b": best},
            reference_imbalance=worst / best,
            reference_distance=1.0,
            topographic_pre=1.0,
            topographic_post=1.0,
            **healthy,
        )

    def toy(config: TrialConfig, data, report, snapshots) -> SimpleNamespace:
        epochs = config.training.epochs
        earlier = snapshots.load("toy")
        begun = earlier.facts["epoch"] if earlier else 0
        for epoch in range(1, epochs + 1):
            if fault is not None and epoch > begun:
                fault(config, epoch)
            losses = {"total": 1 / epoch}
            validation = score(config, epoch)
            report(
                EpochMetrics(epoch=epoch, finished=epoch == epochs, losses=losses, validation=validation, seconds=0.1)
            )
            if snapshots.due and begun < epoch < epochs:
                snapshots.save(State({}, {"epoch": epoch}))

        def save(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "device").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))

        return SimpleNamespace(
            validation=score(config, epochs), save=save, evaluate=lambda split: score(config, epochs, split)
        )

    return toy


def devices(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.glob("tune/checkpoints/*/device")]


def meet_another(folder: Path):
    """Return a fault that lets no trial finish before a second one has begun, so that two hold a GPU at once.

    Trainings of the baseline, which are no trials, neither wait nor count.
    """

    def wait(config: TrialConfig, epoch: int) -> None:
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


def test_more_gpus_than_the_cluster_has_are_refused(config):
    with pytest.raises(ResourceError, match="--gpus 9: the cluster has 8 GPUs"):
        run(config.model_copy(update={"cluster": ClusterConfig(gpus=9)}), objective=make_toy())


def test_a_dry_run_tells_the_cost_and_leaves_nothing(config):
    plan = dry_run(config, objective=make_toy())
    assert [phase.trainings for phase in plan.phases] == [1, 4, 4, 3]
    assert (plan.concurrent, plan.phases[1].epochs) == (2, 24)
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
    assert len(read_journal(more.folder.journal, "s").trials) == 13

    content = dataset.read_bytes()
    try:
        pd.read_parquet(dataset)[::-1].to_parquet(dataset)
        with pytest.raises(ConfigError, match="started on other data"):
            run(config, resume=True, objective=make_toy())
    finally:
        dataset.write_bytes(content)


def outcome_of(record: TrialRecord) -> dict:
    """Return a record without what is another at every run: when, where and how long."""
    return {**record.to_json(), "attempts": len(record.attempts), "seconds": None, "node": None}


def test_a_front_is_found_shown_and_exported_from_its_end_of_least_imbalance(config):
    update = {"objective": "pareto", "sampler": "nsga2", "trials": 6, "deterministic": True}
    config = config.model_copy(update=update)
    result = run(config, objective=make_toy())
    assert [record.state for record in result.search] == ["complete"] * 6
    assert result.front
    assert result.front[0].metrics.imbalance == min(
        record.metrics.imbalance for record in result.search if record.feasible and record.metrics
    )
    table = read_trials(result.folder.trials)
    assert table.loc[table["front"], "number"].tolist() == sorted(record.number for record in result.front)
    status = read_status(result.folder)
    assert status["front"] == [record.number for record in result.front]

    again = study_config(make_parser().parse_args(["--config", str(result.folder.description), "--name", "again"]))
    repeated = run(again, objective=make_toy())  # study.yaml as it stands runs the same study
    assert [outcome_of(record) for record in repeated.search] == [outcome_of(record) for record in result.search]

    warm = run(config.model_copy(update={"name": "t", "trials": 2, "warm_start": ("s",)}), objective=make_toy())
    table = read_trials(warm.folder.trials)
    assert table["phase"].value_counts().loc[["warm", "search"]].tolist() == [6, 2]
    assert set(table.loc[table["phase"] == "warm", "arm"]) == {f"s/{record.arm}" for record in result.search}
    assert [record.number for record in warm.search] == [7, 8]  # after the baseline and six trials that it did not run
    assert read_status(warm.folder)["states"] == {"complete": 2}


def test_a_limit_ends_the_search_now_and_after_a_resume_and_an_extension_goes_on(config):
    until = UntilConfig(imbalance=100)  # which any feasible trial reaches
    config = config.model_copy(update={"trials": 30, "until": until})
    first = run(config, objective=make_toy())
    assert 1 <= len(first.search) < 30
    assert re.fullmatch(r"trial \d+ has imbalance .*x, the target is 100x", first.ended)
    status = read_status(first.folder)
    assert (status["phase"], status["ended"]) == ("done", first.ended)
    again = run(config, resume=True, objective=make_toy())
    assert (again.search, again.finals, again.ended) == (first.search, first.finals, first.ended)

    arguments = ["--extend", "+2", "--name", "s", "--runs", config.runs]
    more = study_config(make_parser().parse_args(arguments))
    assert (more.trials, more.until.since) == (len(first.search) + 2, len(first.search))
    extended = run(
        more.model_copy(update={"until": UntilConfig(since=len(first.search))}), resume=True, objective=make_toy()
    )
    assert extended.search[: len(first.search)] == first.search
    assert len(extended.search) == more.trials
    assert extended.ended == f"all {more.trials} trials are done"
    assert extended.folder.read_description()["config"]["trials"] == more.trials


def test_finals_that_were_cut_off_go_on_with_what_is_missing(config):
    def break_second(config: TrialConfig, epoch: int) -> None:
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
    assert len(result.finals) == 4
    assert read_status(folder)["phase"] == "done"


def test_a_tournament_gives_every_strategy_the_same_and_is_not_run_twice(config):
    config = config.model_copy(update={"trials": 2, "tournament": True})
    first = run(config, objective=make_toy())
    assert {row.arm for row in first.standings} == {"uniform", "balanced", "random"}
    assert {row.trials for row in first.standings} == {2}
    assert {record.arm.split("/")[0] for record in first.search} == {"uniform", "balanced", "random"}
    assert first.best in first.search
    assert (first.folder.best / "checkpoint" / "device").exists()
    assert len(first.finals) == 2 * (1 + sum(row.best is not None for row in first.standings))
    status = read_status(first.folder)
    assert (status["phase"], status["trials"], status["states"]) == ("done", 6, {"complete": 6})
    with pytest.raises(ConfigError, match="each strategy of a tournament has a trial 1"):
        read_story(first.folder, 1)
    with pytest.raises(ConfigError, match="--resume --trials N"):
        study_config(make_parser().parse_args(["--extend", "+2", "--name", "s", "--runs", config.runs]))
    table = read_trials(first.folder.trials)
    assert table["levelling.worst_helped"].notna().all()

    def refuse(config: TrialConfig, epoch: int) -> None:
        raise ZeroDivisionError("trained again")

    again = run(config, resume=True, objective=make_toy(refuse))
    assert again.standings == first.standings
    assert again.conclusion == first.conclusion


def test_divergence_faults_and_deaths_are_recorded_and_the_study_goes_on(config, tmp_path):
    def kind(config: TrialConfig) -> int:
        """By sharpness, which differs from trial to trial; the baseline has exactly 1."""
        return int(config.compression.sharpness * 1000) % 5 if config.compression.strategy == "balanced" else 4

    def fault(config: TrialConfig, epoch: int) -> None:
        if epoch != 3:
            return
        if kind(config) == 0:
            raise DivergedError(epoch, "commitment")
        if kind(config) == 1:
            raise ZeroDivisionError("a bug")
        marker = tmp_path / f"{config.compression.sharpness}"
        if kind(config) in (2, 3) and not marker.exists():
            marker.touch()
            os._exit(1) if kind(config) == 2 else os.kill(os.getpid(), signal.SIGKILL)

    cluster = config.cluster.model_copy(update={"snapshot_seconds": 0})
    config = config.model_copy(update={"trials": 14, "deterministic": True, "cluster": cluster})
    result = run(config, objective=make_toy(fault))
    assert [record.number for record in result.search] == list(range(1, 15))  # trial 0 is the baseline
    expected = {
        0: ("diverged", "non-finite", [("non-finite", 0, 2)]),
        1: ("failed", "exception", [("exception", 0, 2)]),
        2: ("complete", "", [("worker lost", 0, 2), ("", 2, 6)]),
        3: ("complete", "", [("worker lost", 0, 2), ("", 2, 6)]),
        4: ("complete", "", [("", 0, 6)]),
    }
    seen = set()
    space = load_space(config.space)
    for record in result.search:
        what = kind(space.to_config(config.base, record.params))
        seen.add(what)
        story = [(attempt.kind, attempt.start, attempt.epochs) for attempt in record.attempts]
        assert (record.state, record.kind, story) == expected[what], record.number
    assert seen == set(expected)
    table = read_trials(result.folder.trials).set_index(["phase", "number"]).loc["search"]
    assert table["attempts"].tolist() == [len(record.attempts) for record in result.search]
    assert not list((result.folder.tune / "snapshots").iterdir())
    assert {path.name for path in result.folder.tune.iterdir()} == {"checkpoints", "snapshots"}  # no clutter of Tune's
    best = sorted(f"trial-{record.number:04d}" for record in feasible_records(result.search)[:5])
    assert sorted(path.name for path in (result.folder.tune / "checkpoints").iterdir()) == best


def test_a_study_in_which_every_trial_fails_is_given_up(config):
    def fault(config: TrialConfig, epoch: int) -> None:
        if config.compression.rule == "spinlock" or config.compression.sharpness != 1.0:
            raise ZeroDivisionError("a bug")

    with pytest.raises(StudyError, match=r"of the last . trials failed.*a bug"):
        run(config.model_copy(update={"trials": 40}), objective=make_toy(fault))


def test_a_baseline_that_diverges_ends_the_study(config):
    def fault(config: TrialConfig, epoch: int) -> None:
        raise DivergedError(epoch, "reconstruction")

    with pytest.raises(StudyError, match="uniform baseline diverged in epoch 1: reconstruction"):
        run(config, objective=make_toy(fault))
