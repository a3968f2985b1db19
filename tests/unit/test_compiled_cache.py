"""Compiled code is kept where it can be written, by version, and never where others could put theirs."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from spinlock_dist.compiled import cache, missing
from spinlock_dist.config import TrialConfig
from spinlock_dist.training import warm_up as module
from spinlock_dist.training.warm_up import warm_up


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cache.cache_folder.cache_clear()
    yield
    cache.cache_folder.cache_clear()


def test_a_folder_that_is_named_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert cache.cache_folder().parent == tmp_path / "named"


def test_without_a_writable_home_a_private_folder_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(cache, "__file__", "/proc/package/cache.py")
    private = tmp_path / "tmp" / f"spinlock_dist-{os.getuid()}"
    assert cache.cache_folder().parent == private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(cache, "__file__", "/proc/package/cache.py")
    private = tmp_path / "tmp" / f"spinlock_dist-{os.getuid()}"
    private.mkdir(mode=0o777)
    private.chmod(0o777)
    assert private not in cache.cache_folder().parents


def test_what_takes_long_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "_use_every_function", lambda: None)
    lines: list[str] = []
    config = TrialConfig().with_overrides({"training.device": "cpu"})
    warm_up(config.with_overrides({"training.engine": "torch"}), lines.append)
    assert not lines
    warm_up(config, lines.append)
    warm_up(config, lines.append)
    if missing() is None:
        assert lines == ["compiling the training loops for this processor: once, about half a minute"]


def test_where_numba_is_missing_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinlock_dist.compiled.missing", lambda: "numba is not installed")
    lines: list[str] = []
    warm_up(TrialConfig().with_overrides({"training.device": "cpu"}), lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("numba is not installed: training runs in torch")
