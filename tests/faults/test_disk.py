"""Disks that are full, unwritable or damaged, and a second driver: refused or survived in a line, nothing lost."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from results.records.optuna_trials import read_journal, read_search
from results.records.study_folder import StudyFolder
from spinlock_dist.errors import ConfigError, SpinlockError
from study import StudyConfig, run
from study.worker.retry_policy import StudyError
from tests.faults.conftest import Ledger
from tests.toy import ONE_PARAMETER, make_toy, small_study

TRIALS = 12


pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.fixture
def config(tmp_path: Path, dataset: Path) -> StudyConfig:
    return small_study(tmp_path, dataset, ONE_PARAMETER, trials=TRIALS)


def told(config: StudyConfig, resume: bool = True) -> tuple[str, list]:
    """Run a study and return what it printed and its trials."""
    console = Console(file=io.StringIO(), width=400)
    result = run(config, resume=resume, objective=make_toy(seconds=0.05), console=console)
    return console.file.getvalue(), list(result.search)


def ended(config: StudyConfig) -> list:
    folder = StudyFolder(Path(config.runs) / config.name)
    return read_search(read_journal(folder.journal))


def test_a_file_that_cannot_grow_in_the_driver(config: StudyConfig, ledger: Ledger) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StudyError, match=r"cannot be written: .*File too large.*--resume") as refused:
            told(config, resume=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(str(refused.value).splitlines()) == 1
    before = ended(config)
    assert 0 < len(before) < TRIALS
    _, records = told(config)
    assert [record for record in records if record.number in {one.number for one in before}] == before
    ledger.enter("journal cannot grow", f"after {len(before)} trials", "by --resume", records, TRIALS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a disk")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_disk_that_fills_up(small_disk: Path, config: StudyConfig, ledger: Ledger) -> None:
    config = config.model_copy(update={"runs": str(small_disk)})
    journal, ballast = small_disk / "s" / "optuna.journal", small_disk / "ballast"

    def fill() -> None:
        while not (journal.exists() and journal.stat().st_size > 40_000):
            time.sleep(0.02)
        with ballast.open("wb", buffering=0) as file, suppress(OSError):  # until there is no room
            while True:
                file.write(bytes(4096))

    filler = threading.Thread(target=fill, daemon=True)
    filler.start()
    with pytest.raises(StudyError, match=r"No space left on device.*--resume") as refused:
        told(config, resume=False)
    filler.join()
    assert len(str(refused.value).splitlines()) == 1
    before = ended(config)
    assert 0 < len(before) < TRIALS
    ballast.unlink()
    _, records = told(config)
    assert not [record for record in records if record.state == "failed"]
    assert [record for record in records if record.number in {one.number for one in before}] == before
    ledger.enter("disk full", f"after {len(before)} trials", "by --resume", records, TRIALS)


def test_damaged_files_are_mended_and_a_second_driver_is_refused(
    config: StudyConfig, dataset: Path, ledger: Ledger
) -> None:
    _, first = told(config, resume=False)
    folder = StudyFolder(Path(config.runs) / config.name)
    more = config.model_copy(update={"trials": TRIALS + 2})

    held = rf"being run by process {os.getpid()} on "
    with folder.lock(), pytest.raises(SpinlockError, match=held):
        run(more, resume=True, objective=make_toy())
    ledger.enter("second driver", "while the first runs", "refused, naming it", ended(config), TRIALS)

    content = dataset.read_bytes()
    try:
        pd.read_parquet(dataset)[::-1].to_parquet(dataset)
        with pytest.raises(ConfigError, match="started on other data"):
            run(more, resume=True, objective=make_toy())
    finally:
        dataset.write_bytes(content)
    ledger.enter("dataset changed", "before --resume", "refused by fingerprint", ended(config), TRIALS)

    with folder.journal.open("ab") as journal:
        journal.write(b'{"op_code": 5, "wor')
    printed, records = told(more)
    assert "optuna.journal had a damaged end, which was cut off; the whole is kept as optuna.journal.damaged" in printed
    assert (folder.path / "optuna.journal.damaged").exists()
    assert records[:TRIALS] == first
    ledger.enter("journal torn", "before --resume", "its end was cut off", records, TRIALS + 2)

    [exported] = (folder.best / "checkpoint").iterdir()
    number = int(json.loads(folder.verdict.read_text())["exported"].removeprefix("trial-"))
    best = folder.checkpoint(number) / exported.name
    whole = best.read_bytes()
    best.write_bytes(b"rotten" + whole)
    printed, records = told(more)
    assert "is damaged: trial" in printed
    assert best.read_bytes() == exported.read_bytes() == whole
    ledger.enter("checkpoint of the best rotten", "before --resume", "trained again", records, TRIALS + 2)


@pytest.mark.parametrize("runs", ["/proc/runs", "/dev/null/runs"])
def test_where_nothing_can_be_written_nothing_is_begun(config: StudyConfig, ledger: Ledger, runs: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        run(config.model_copy(update={"runs": runs}), objective=make_toy())
    ledger.enter(f"--runs {runs}", "at the start", "refused", [], 0)
