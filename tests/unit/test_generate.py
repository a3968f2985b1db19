"""The command `python -m spinlock_dist.generate`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from spinlock_dist.errors import ConfigError
from spinlock_dist.generate import main

COMMAND = [sys.executable, "-m", "spinlock_dist.generate"]


def test_it_writes_a_dataset_and_one_closing_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.h5"
    assert main(["--samples", "20", "--grid", "8", "--steps", "8", "--out", str(path)]) == 0
    closing = capsys.readouterr().out.splitlines()
    assert len(closing) == 1
    assert closing[0].startswith(f"{path}: 20 operators (initial ")
    with h5py.File(path) as file:
        assert len(file["parameters/params"]) == 20


@pytest.mark.parametrize(
    ("option", "value", "name"), [("--samples", "1", "samples"), ("--grid", "4", "grid"), ("--workers", "0", "workers")]
)
def test_impossible_settings_are_named(option: str, value: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=name):
        main([option, value, "--out", str(tmp_path / "never.h5")])


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys, contextlib, spinlock_dist.generate as g\n"
        "with contextlib.suppress(SystemExit): g.main(['--help'])\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout


def test_another_file_in_the_way_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "taken.h5"
    path.write_text("something else")
    result = subprocess.run([*COMMAND, "--out", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "not made by this simulator" in result.stderr


def test_interrupted_by_the_keyboard_it_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "long.h5"
    partial = tmp_path / "long.h5.partial"
    command = [*COMMAND, "--samples", "100000", "--grid", "8", "--steps", "8", "--workers", "2", "--out", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(partial.glob("block_*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command to resume" in errors
    assert "Traceback" not in errors
    assert list(partial.glob("block_*.npz"))
    assert not path.exists()


@pytest.mark.parametrize("size", ["--grid", "--steps", "--realizations"])
def test_a_simulation_beyond_the_memory_is_refused_and_leaves_nothing(tmp_path: Path, size: str) -> None:
    with pytest.raises(ConfigError, match=r"simulating .* would need [\d.e+]+ TB of memory.*lower grid, steps or"):
        main(["--samples", "20", "--out", str(tmp_path / "o.h5"), size, "100000000"])
    assert [path.name for path in tmp_path.iterdir()] in ([], ["o.h5.lock"])
