"""Whether files can be used: every kind of file that a person hands over."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinlock_dist.errors import ConfigError
from study.check import main
from study.cluster.resources import ResourceError
from tests.synthetic_study import build_study

FILES = {
    "trial.yaml": ("training: {epochs: 3}", "a trial config, on simulated operators"),
    "preset.yaml": ("preset: spinlock", "a trial config"),
    "study.yaml": (
        "trials: 5\nbase: {training: {epochs: 3}}",
        "a study config: 5 trials of space adaptive_compression",
    ),
    "space.yaml": ("extends: quick\ndescription: mine", "a search space: continuous, "),
    "categories.yaml": ("a: [f0, f1]\nb: [f2]", "a mapping of 2 categories"),
    "misspelt.yaml": ("training:\n  epoch: 3", "cannot be used: line 2: unknown setting 'training.epoch'"),
    "no_space.yaml": ("extends: quik", "cannot be used"),
    "far.yaml": (
        "trials: 5\nbase: {prepare: {dataset: far.h5}}",
        "cannot be used: prepare.dataset: far.h5 is not there",
    ),
    "damaged.json": ("{", "cannot be used: line 1: not valid JSON"),
    "table.csv": ("a,b\n1,2", "cannot be used"),
    "notes.txt": ("", "cannot be used: not known by its name"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, (text, _) in FILES.items():
        Path(name).write_text(text)
    rng = np.random.default_rng(0)
    columns = {f"summary::f{n}": rng.normal(size=60) for n in range(8)}
    pd.DataFrame(columns).to_parquet("table.parquet")
    return tmp_path


def test_a_line_says_what_each_file_is_and_what_is_wrong_with_it(folder, capsys):
    assert main([*FILES, "table.parquet", "missing.yaml", "."]) == 1
    lines = capsys.readouterr().out.splitlines()
    for line, (name, (_, told)) in zip(lines, FILES.items(), strict=False):
        assert line.startswith(f"{name}: {told}")
    table, missing, here = lines[len(FILES) :]
    assert table.startswith("table.parquet: a dataset: 60 rows, 8 columns in ")
    assert missing.startswith("missing.yaml: cannot be used: no such file")
    assert here.startswith(".: cannot be used") and "does not describe a study" in here


def test_what_can_be_used_is_no_failure(folder, capsys):
    assert main(["trial.yaml", "space.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["usable"] for each in told] == [True, True]


@pytest.mark.parametrize("given", [[], ["trial.yaml", "--cluster", "auto"]])
def test_either_files_or_a_cluster_is_checked(given, capsys):
    with pytest.raises(SystemExit) as refused:
        main(given)
    assert refused.value.code == 2
    assert "name files, or a cluster with --cluster" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_no_failure_of_the_check(tmp_path):
    with pytest.raises(ResourceError, match=r"no Ray cluster answers at 127\.0\.0\.1:9") as refused:
        main(["--cluster", "127.0.0.1:9", "--runs", str(tmp_path / "runs")])
    assert refused.value.exit_code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "why"), [("file", "File exists"), ("file/runs", "Not a directory")])
def test_a_folder_for_a_cluster_that_cannot_be_written_is_said_in_a_line(tmp_path, name, why):
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"^--runs {tmp_path}/{name}: cannot be written: {why}; name another"):
            main(["--cluster", address, "--runs", str(tmp_path / name)])


def test_a_study_is_checked_file_by_file(tmp_path, capsys):
    study = build_study(tmp_path, "s", 6)
    assert main([str(study.path)]) == 0
    assert "a study: finished; " in capsys.readouterr().out
    os.truncate(study.trials, 100)
    assert main([str(study.path)]) == 1
    assert "cannot be used: trials.parquet" in capsys.readouterr().out
