"""A study's folder with one thing wrong: every command that reads it shows what there is, or says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import results.compare
import results.export.command
import results.leaderboard
import results.report.command
import study.status
from results.records.optuna_trials import read_search
from spinlock_dist.errors import SpinlockError
from study.launch_options import make_parser, study_config
from study.provenance import study_space
from study.search.storage import open_journal, release
from study.validate import open_folder
from tests.fuzz import bounded, bounds, inputs
from tests.synthetic_study import build_study

FILES = (
    "study.yaml",
    "baseline.json",
    "verdict.json",
    "prepared/summary.json",
    "prepared/categories.json",
    "final.json",
)


def begin_to_resume(args: list[str]) -> int:
    """What `study.launch --resume` does before anything starts."""
    config = study_config(make_parser().parse_args(["--resume", "--name", *args]))
    open_folder(config, study_space(config), resume=True)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "status": study.status.main,
    "why": lambda args: study.status.main([*args, "--why", "1"]),
    "leaderboard": results.leaderboard.main,
    "leaderboard json": lambda args: results.leaderboard.main([*args, "--json"]),
    "compare": lambda args: results.compare.main([args[0], "other", *args[1:], "--anyway"]),
    "export": lambda args: results.export.command.main([*args, "--out", f"{args[-1]}/e.yaml"]),
    "report": results.report.command.main,
    "resume": begin_to_resume,
}
"""What reads a study."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("s", "other"):
        build_study(folder, name, 12)
    return folder


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything in a tree, of long lists the first two."""
    inner = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    return [path] * bool(path) + [found for key, value in inner[:40] for found in places(value, (*path, key))]


others = st.sampled_from([None, -1, 0, 1.5, 10**30, "", "x", [], {}, [[]], True, float("nan")])


@settings(max_examples=inputs(12), deadline=None)
@given(st.data())
@bounded
def test_any_study_folder_with_one_thing_wrong(
    runs: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    path = folder / "s" / data.draw(st.sampled_from(FILES))
    if data.draw(st.booleans()):
        (folder / "s" / "trials.parquet").unlink(missing_ok=True)  # then the journal is read
    if path.exists():
        is_yaml = path.suffix == ".yaml"
        tree = yaml.safe_load(path.read_text()) if is_yaml else json.loads(path.read_text())
        *parents, last = data.draw(st.sampled_from(places(tree)))
        node = tree
        for key in parents:
            node = node[key]
        if data.draw(st.booleans()):
            del node[last]
        else:
            node[last] = data.draw(others)
        path.write_text(yaml.safe_dump(tree) if is_yaml else json.dumps(tree))
    shown_or_said(data.draw(st.sampled_from(sorted(COMMANDS))), folder)


def shown_or_said(command: str, folder: Path) -> None:
    """Hold that a command shows study `s`, or ends in a line."""
    said = ""
    try:
        assert COMMANDS[command](["s", "--runs", str(folder)]) == 0
    except SpinlockError as error:
        said = str(error)
    assert "\n" not in said or "not comparable" in said


def begin_to_write(runs: Path) -> None:
    """What a driver does with the journal, beside what it does with the folder."""
    study = open_journal(runs / "s" / "optuna.journal", "s")
    release(study, "driver lost", "the driver was lost")
    read_search(study)


@settings(max_examples=inputs(12), deadline=None)
@given(st.data())
@bounded
def test_any_journal_with_one_thing_wrong(
    runs: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    (folder / "s" / "trials.parquet").unlink()
    path = folder / "s" / "optuna.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    at, how = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.sampled_from(JOURNAL_FAULTS))
    if how == "dropped":
        del lines[at]
    elif how == "repeated":
        lines.insert(at, lines[at])
    elif how == "swapped":
        lines[at - 1], lines[at] = lines[at], lines[at - 1]
    elif how == "cut":
        lines[at:] = [lines[at][: data.draw(st.integers(0, len(lines[at])))]]
    elif how == "cut within":
        lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))] + b"\n"
    else:
        entry = json.loads(lines[at])
        *parents, last = data.draw(st.sampled_from(places(entry)))
        node = entry
        for key in parents:
            node = node[key]
        node[last] = data.draw(others)
        lines[at] = json.dumps(entry).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    for command in data.draw(st.permutations(sorted(COMMANDS)))[:2]:
        shown_or_said(command, folder)
    said = ""
    try:
        begin_to_write(folder)
    except SpinlockError as error:
        said = str(error)
    assert "\n" not in said


JOURNAL_FAULTS = ("dropped", "repeated", "swapped", "cut", "cut within", "changed")


@settings(max_examples=inputs(12), deadline=None)
@given(st.data())
@bounded
def test_any_table_of_a_study_with_one_thing_wrong(
    runs: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    path = folder / "s" / data.draw(st.sampled_from(["trials.parquet", "curves.parquet"]))
    table = parquet.read_table(path)
    column = data.draw(st.integers(0, table.num_columns - 1))
    how = data.draw(st.sampled_from(["dropped", "empty", "text", "no rows", "fewer rows", "without attributes"]))
    if how == "dropped":
        table = table.remove_column(column)
    elif how in ("empty", "text"):
        values = pyarrow.nulls(len(table)) if how == "empty" else pyarrow.array(["{x"] * len(table))
        table = table.set_column(column, table.column_names[column], values)
    elif how == "without attributes":
        table = table.replace_schema_metadata({})
    else:
        table = table.slice(0, 0 if how == "no rows" else len(table) // 2)
    parquet.write_table(table, path)
    shown_or_said(data.draw(st.sampled_from(sorted(COMMANDS))), folder)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_sound_study_is_shown(runs: Path, command: str) -> None:
    assert COMMANDS[command](["s", "--runs", str(runs)]) == 0


STORED = (
    "study.yaml",
    "trials.parquet",
    "curves.parquet",
    "baseline.json",
    "verdict.json",
    "final.json",
    "optuna.journal",
)


@pytest.mark.parametrize("file", STORED)
@pytest.mark.parametrize("how", ["gone", "a pipe", "a folder", "a link to nowhere"])
def test_a_file_of_a_study_that_is_none_ends_no_command(runs: Path, tmp_path: Path, file: str, how: str) -> None:
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "s" / file
    path.unlink()
    if how == "a pipe":
        os.mkfifo(path)
    elif how == "a folder":
        path.mkdir()
    elif how == "a link to nowhere":
        path.symlink_to("nowhere")
    with bounds():
        for command in sorted(COMMANDS):
            shown_or_said(command, tmp_path)


def test_a_journal_that_is_a_pipe_is_not_written_to(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    (tmp_path / "s" / "optuna.journal").unlink()
    os.mkfifo(tmp_path / "s" / "optuna.journal")
    with bounds(), pytest.raises(SpinlockError, match=r"optuna\.journal: is a device or a pipe"):
        begin_to_write(tmp_path)
