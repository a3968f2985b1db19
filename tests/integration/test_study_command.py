"""`study.launch` as a user meets it: refusals, interruptions, resumption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import ray

from results.records.optuna_trials import read_journal, read_search
from results.records.study_folder import StudyFolder
from spinlock_dist.errors import run_command
from study.config import StudyConfig
from study.launch import main


def table(rows: int = 240, columns: int = 9) -> pd.DataFrame:
    """Three groups of correlated columns."""
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(rows, 3))
    noise = rng.normal(size=(rows, columns))
    names = [f"summary::f{index}" for index in range(columns)]
    return pd.DataFrame(sources[:, np.arange(columns) % 3] + 0.5 * noise, columns=names)


# ---------------------------------------------------------------- refusals


def _not_hdf5(folder: Path) -> Path:
    (folder / "x.h5").write_text("this is not an HDF5 file")
    return folder / "x.h5"


def _without_features(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file["inputs/fields"] = np.zeros((4, 3, 8, 8))
    return folder / "x.h5"


def _one_row(folder: Path) -> Path:
    table(rows=1).to_csv(folder / "x.csv", index=False)
    return folder / "x.csv"


def _empty_column(folder: Path) -> Path:
    table().assign(**{"summary::f0": np.nan}).to_csv(folder / "x.csv", index=False)
    return folder / "x.csv"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda folder: folder / "missing.h5", "no such"),
        (_not_hdf5, "not an HDF5"),
        (_without_features, "features"),
        (_one_row, "row"),
        (_empty_column, "f0"),
    ],
    ids=["missing file", "not an HDF5", "HDF5 without features", "one row", "all-NaN column"],
)
def test_bad_data_is_refused(tmp_path, capsys, dataset, message):
    refused(capsys, tmp_path, ["--dataset", str(dataset(tmp_path))], message)


SPACE = "description: a test\nparameters:\n  {parameter}\n"


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            "compression.strategy: {type: categorical, choices: [varianse]}",
            "line 3.*'varianse'; did you mean 'variance'",
        ),
        ("compression.sharpness: {type: float, low: 2.0, high: 1.0}", "line 3.*low must be below high"),
        ("compression.sharpnes: {type: float, low: 1.0, high: 2.0}", "line 3.*did you mean 'sharpness'"),
    ],
    ids=["unknown strategy", "low above high", "unknown setting"],
)
def test_a_bad_space_is_refused(tmp_path, capsys, parameter, message):
    (tmp_path / "space.yaml").write_text(SPACE.format(parameter=parameter))
    refused(capsys, tmp_path, ["--space", str(tmp_path / "space.yaml")], message)


def test_an_unknown_key_in_the_config_is_refused_with_the_nearest(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text("trials: 4\nbaze: {}\n")
    refused(capsys, tmp_path, ["--config", str(tmp_path / "study.yaml")], "line 2: unknown setting 'baze'.*'base'")


def test_more_gpus_than_there_are_are_refused_before_anything_is_started(tmp_path, capsys):
    refused(capsys, tmp_path, ["--gpus", "64"], "--gpus 64: this machine has .*to run on CPU")
    assert not ray.is_initialized()  # Ray would wait for them without end


def test_an_existing_name_is_refused_with_both_ways_out(tmp_path, capsys):
    config = StudyConfig(name="taken").model_dump(mode="json")
    StudyFolder(tmp_path / "runs" / "taken").write_description({"config": config, "fingerprint": "f"})
    refused(capsys, tmp_path, ["--name", "taken"], "--resume, or choose another --name")


def test_a_cluster_that_is_not_there_is_refused(tmp_path, capsys):
    refused(capsys, tmp_path, ["--address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9")


def refused(capsys: pytest.CaptureFixture, folder: Path, argv: list[str], message: str) -> None:
    """Assert that the command exits with 2 and a message of at most two lines, and leaves no study behind."""
    runs = folder / "runs"
    before = set(runs.glob("*"))
    with pytest.raises(SystemExit) as exited:
        run_command(lambda: main(["--runs", str(runs), *argv]))
    error = capsys.readouterr().err.strip()
    assert exited.value.code == 2
    assert re.search(message, error), error
    assert len(error.splitlines()) <= 2
    assert "Traceback" not in error
    assert set(runs.glob("*")) == before


# ---------------------------------------------------------------- interruptions

TRIALS = 8


@pytest.fixture
def launch(tmp_path: Path, repository: Path):
    """Return a function that starts the same command, as a process group of its own."""
    table().to_parquet(tmp_path / "table.parquet")
    command = [sys.executable, "-m", "study.launch", "--dataset", "table.parquet", "--space", "quick", "--name", "s"]
    command += ["--trials", str(TRIALS), "--epochs", "2", "--no-dashboard", "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    started: list[subprocess.Popen] = []

    def start(*more: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [*command, *more],
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_interrupted_killed_and_resumed_every_trial_is_done_exactly_once(launch, tmp_path):
    folder = StudyFolder(tmp_path / "runs" / "s")

    first = launch()
    wait_for_trials(first, 2)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130, output
    assert "--resume --name s" in output
    after_interrupt = trials(folder)

    second = launch("--resume")
    wait_for_trials(second, 2)
    second.kill()
    second.communicate(timeout=60)
    after_kill = trials(folder)

    third = launch("--resume", "--json")
    output, _ = third.communicate(timeout=180)
    assert third.returncode == 0, output
    done = trials(folder)
    assert len(done) == TRIALS
    assert 2 <= len(after_interrupt) < len(after_kill) < TRIALS
    for earlier in (after_interrupt, after_kill):
        assert {number: done[number] for number in earlier} == earlier
    settings = [json.dumps(record.params, sort_keys=True) for record in done.values()]
    assert len(set(settings)) == TRIALS
    assert folder.trials.exists()
    states = {trial.state.name for trial in read_journal(folder.journal).trials}
    assert not states & {"RUNNING", "WAITING"}


def wait_for_trials(process: subprocess.Popen, count: int) -> None:
    """Read the output until `count` trials have ended in this run."""
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        count -= re.match(r" +\d+/\d+ ", line) is not None
        if count == 0:
            return
    pytest.fail(f"the study ended early:\n{seen}")


def trials(folder: StudyFolder) -> dict:
    """Return the settled trials by number."""
    return {record.number: record for record in read_search(read_journal(folder.journal))}


def test_a_file_alone_never_imports_a_sampler(tmp_path, capsys, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('code of a file ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "study.yaml").write_text("sampler: elsewhere.Sampler\n")
    refused(
        capsys,
        tmp_path,
        ["--config", str(tmp_path / "study.yaml")],
        "sampler elsewhere.Sampler is code, which a file alone never imports: give --sampler elsewhere.Sampler again",
    )
    refused(capsys, tmp_path, ["--sampler", "nowhere.Sampler"], "--sampler nowhere.Sampler: cannot be imported")
    refused(capsys, tmp_path, ["--sampler", "tpee"], "unknown sampler 'tpee'; did you mean 'tpe'?")
