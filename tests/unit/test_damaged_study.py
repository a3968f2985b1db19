"""A study's folder with one thing wrong: every command that reads it shows what there is, or says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import results.compare
import results.export.command
import results.leaderboard
import results.report.command
import study.status
from spinlock_dist.errors import SpinlockError
from study.launch_options import make_parser, study_config
from study.provenance import study_space
from study.validate import open_folder
from tests.fuzz import bounded, inputs
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
    command = COMMANDS[data.draw(st.sampled_from(sorted(COMMANDS)))]
    said = ""
    try:
        assert command(["s", "--runs", str(folder)]) == 0
    except SpinlockError as error:
        said = str(error)
    assert "\n" not in said or "not comparable" in said


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_sound_study_is_shown(runs: Path, command: str) -> None:
    assert COMMANDS[command](["s", "--runs", str(runs)]) == 0
