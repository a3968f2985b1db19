"""Make a dataset, block by block, so that an interrupted run goes on where it stopped.

Finished blocks wait as files of their own in `<name>.partial/`; the dataset appears under its name only when complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import current_process, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from spinlock_dist.atomic_files import replacing, write_text
from spinlock_dist.config import SimulatorConfig
from spinlock_dist.cores import available_cores
from spinlock_dist.errors import ConfigError, DataError, SpinlockError
from spinlock_dist.memory import require_memory
from spinlock_dist.simulator.extract import BLOCK_ROWS, FAMILIES, Block, simulate_block
from spinlock_dist.simulator.initial_conditions import CHANNELS
from spinlock_dist.simulator.layout import check_same, identity, read_identity, write_dataset
from spinlock_dist.simulator.parameters import KINDS

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""
GUARD = 'simulation uses worker processes, which import the calling script: guard it with if __name__ == "__main__":'
FLOAT32 = 4
BLOCKS_PER_WORKER = 4
"""Fewer blocks than this do not repay a worker's start (importing torch)."""


def generate_dataset(
    config: SimulatorConfig, path: Path, progress: Progress = lambda done, total: None, workers: int | None = None
) -> Path:
    """Simulate `config.samples` operators into the HDF5 file `path` and return it. Values depend on `config` alone.

    A complete file with the same parameters is kept; an interrupted one is continued. `workers` processes share the
    work (default: one per available core, fewer for small datasets); a script that uses more than one must guard its
    entry with `if __name__ == "__main__"`. Raises `DataError` if `path` holds something else, names the parameter
    that differs, or if its folder cannot be written; `SpinlockError` if a worker is killed.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # a finished dataset needs no lock, and may lie in a read-only folder
            _generate_once(config, path, progress, workers)
    except BrokenProcessPool:
        raise SpinlockError(
            f"{path}: a worker ended early; if memory ran out, give the same command again to go on, with fewer "
            f"workers; in a script of your own, {GUARD}"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    check_same(config, read_identity(path), path)
    progress(config.samples, config.samples)
    return path


def cached_dataset(config: SimulatorConfig, progress: Progress = lambda done, total: None) -> Path:
    """The dataset of `config`, simulating it the first time.

    Kept in $SPINLOCK_DIST_CACHE, or else $XDG_CACHE_HOME/spinlock_dist, or else ~/.cache/spinlock_dist.
    """
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:12]
    return generate_dataset(config, cache_folder() / f"operators_{config.samples}_{digest}.h5", progress)


def cache_folder() -> Path:
    """Where `cached_dataset` keeps its files."""
    if chosen := os.environ.get("SPINLOCK_DIST_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spinlock_dist"


def partial_folder(path: Path) -> Path:
    """Where the finished blocks of an incomplete dataset `path` wait."""
    return path.with_name(path.name + ".partial")


# ---------------------------------------------------------------- blocks


def _generate_once(config: SimulatorConfig, path: Path, progress: Progress, workers: int | None) -> None:
    """Generate `path` unless another process, for which this one waits, has done so."""
    if getattr(current_process(), "_inheriting", False):
        # A worker importing an unguarded script comes here and would wait for ever for the lock its parent holds.
        raise SpinlockError(GUARD)
    lock = Path(f"{path}.lock")
    if lock.is_symlink() or (lock.exists() and not (lock.is_file() and lock.stat().st_size == 0)):
        raise DataError(f"{lock} is in the way and not this program's; move it, or choose another file name")
    with FileLock(lock):
        if not path.exists():
            _generate(config, path, progress, workers)
        lock.unlink(missing_ok=True)  # whoever comes later finds the dataset and needs no lock


def _require_memory(config: SimulatorConfig) -> None:
    """Raise `ConfigError` with the size if the frames of the operators of one kind in a block do not fit in memory."""
    rows = -(-min(config.samples, BLOCK_ROWS) // len(KINDS))
    require_memory(
        FLOAT32 * rows * CHANNELS * config.grid**2 * config.steps * config.realizations,
        f"simulating {config.steps} steps of {config.realizations} realizations on a grid of {config.grid}",
        ConfigError,
        "lower grid, steps or realizations",
    )


def _generate(config: SimulatorConfig, path: Path, progress: Progress, workers: int | None) -> None:
    _require_memory(config)
    folder = partial_folder(path)
    _open_partial(config, folder)
    starts = range(0, config.samples, BLOCK_ROWS)
    missing = [start for start in starts if not _block_file(folder, start).exists()]
    done = len(starts) - len(missing)
    progress(min(done * BLOCK_ROWS, config.samples), config.samples)
    for saved in _simulated(config, folder, missing, workers):
        progress(min((done + saved) * BLOCK_ROWS, config.samples), config.samples)
    with replacing(path) as assembled:
        write_dataset(assembled, config, (_load_block(folder, start) for start in starts))
    shutil.rmtree(folder)


def _open_partial(config: SimulatorConfig, folder: Path) -> None:
    note = folder / "simulator.json"
    if os.path.lexists(folder) and (folder.is_symlink() or not _is_partial(folder, note)):
        raise DataError(f"{folder} is in the way and not this program's; move it, or choose another file name")
    folder.mkdir(exist_ok=True)
    if note.exists():
        check_same(config, json.loads(note.read_text()), folder)
    else:
        write_text(note, json.dumps(identity(config)))


def _is_partial(folder: Path, note: Path) -> bool:
    """Whether a folder holds blocks of a dataset, which are removed once it is complete, and nothing else."""
    if not folder.is_dir():
        return False
    files = [file.name for file in folder.iterdir() if not file.name.startswith(".")]  # drafts of a killed writer
    return not files or (note.exists() and all(re.fullmatch(r"simulator\.json|block_\d+\.npz", name) for name in files))


def _simulated(config: SimulatorConfig, folder: Path, starts: list[int], workers: int | None) -> Iterator[int]:
    """Simulate the blocks at `starts`, yielding how many are saved as each one is."""
    workers = workers or max(1, min(available_cores(), len(starts) // BLOCKS_PER_WORKER))
    if workers == 1:
        for saved, start in enumerate(starts, start=1):
            _save_block(config, folder, start)
            yield saved
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        with _interrupts_held():  # workers inherit it: Ctrl-C lets them finish and save their block
            tasks = [pool.submit(_save_block, config, folder, start) for start in starts]
        for saved, task in enumerate(as_completed(tasks), start=1):
            task.result()
            yield saved
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Leave no worker behind when the parent is killed: idle workers would wait for work for ever."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _save_block(config: SimulatorConfig, folder: Path, start: int) -> None:
    with _one_thread():
        block = simulate_block(config, start)
    registries = {f"registry_{family}": np.array(json.dumps(block.registries[family])) for family in FAMILIES}
    arrays: dict[str, Any] = {**block.families, **registries, "fields": block.fields, "parameters": block.parameters}
    with replacing(_block_file(folder, start)) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)


def _load_block(folder: Path, start: int) -> Block:
    with np.load(_block_file(folder, start)) as arrays:
        return Block(
            families={family: arrays[family] for family in FAMILIES},
            registries={family: json.loads(str(arrays[f"registry_{family}"])) for family in FAMILIES},
            fields=arrays["fields"],
            parameters=arrays["parameters"],
        )


def _block_file(folder: Path, start: int) -> Path:
    return folder / f"block_{start:08d}.npz"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: processes share the cores, and sums do not depend on the machine's core count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
