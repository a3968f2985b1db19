"""One program for all commands, and hints that can be typed as they are printed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinlock_dist.command import COMMANDS, PROGRAM, command_parser, tool, typed
from study.program import parser_of

NEED_OUT = ("export", "tokenize", "detokenize", "generate")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `bin` of an environment that has the program and `ray`, below the current folder and not active."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in (PROGRAM, "ray"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(folder.parent))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_option_is_named_in_two_lines_with_the_nearest(command, capsys) -> None:
    parser = parser_of(command)
    option = max((each for each in parser._option_string_actions if each.startswith("--")), key=len)
    needed = [each.dest for each in parser._actions if each.required and not each.option_strings]
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([*needed, *(["--out", "x"] if command in NEED_OUT else []), f"{option}x"])
    assert ended.value.code == 2
    first, second, *more = capsys.readouterr().err.splitlines()
    assert first.endswith(f"unrecognized arguments: {option}x; did you mean '{option}'?") and first.startswith(
        "error: "
    )
    assert second.startswith("see: ") and second.endswith("--help") and not more


def test_a_hint_has_the_path_of_an_environment_that_is_not_active(environment):
    assert typed("study.launch") == ".venv/bin/spinlock-dist launch"
    assert tool("ray") == ".venv/bin/ray"


def test_a_hint_is_the_name_alone_where_it_leads_to_this_environment(environment, monkeypatch):
    monkeypatch.setenv("PATH", f"{environment}{os.pathsep}/usr/bin")
    assert typed("study.launch") == "spinlock-dist launch"
    assert tool("ray") == "ray"


def test_a_program_of_another_environment_is_not_meant(environment, monkeypatch, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / PROGRAM).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    monkeypatch.chdir(other)
    assert typed("results.report") == f"{environment}/{PROGRAM} report"


def test_without_the_program_a_hint_runs_the_module(environment):
    (environment / PROGRAM).unlink()
    assert typed("study.status") == ".venv/bin/python -m study.status"
    assert tool("tensorboard") == "tensorboard"


def test_a_path_with_a_blank_can_be_pasted(tmp_path, monkeypatch):
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    (folder / PROGRAM).touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(folder.parent))
    monkeypatch.setenv("PATH", "")
    assert typed("study.launch") == f"'{folder}/{PROGRAM}' launch"


def test_examples_are_shown_as_they_are_typed(environment):
    parser = command_parser("study.status", "Says.", "examples:\n  python -m study.status mine")
    assert ".venv/bin/spinlock-dist status mine" in parser.format_help() and "python -m" not in parser.format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module(name):
    assert importlib.util.find_spec(COMMANDS[name][0]) is not None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "study.program", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_command_gets_the_arguments_after_its_name(tmp_path):
    shown = run("spaces", "quick")
    assert shown.returncode == 0 and "compression.strategy" in shown.stdout
    missing = run("status", "nothing", "--runs", str(tmp_path))
    assert missing.returncode == 2 and "Traceback" not in missing.stderr
    helped = run("leaderboard", "--help")
    assert helped.returncode == 0 and "leaderboard" in helped.stdout.splitlines()[0]


def test_what_is_no_command_is_refused_with_those_there_are():
    refused = run("lunch")
    assert refused.returncode == 2 and "launch" in refused.stderr
    assert run("--version").stdout.startswith(PROGRAM)
    helped = run("--help").stdout
    assert all(name in helped for name in COMMANDS)
