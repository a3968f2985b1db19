"""What a study runs on is disturbed from outside: workers, memory, file handles, disks, its own files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from results.records.trial_record import TrialRecord
from tests.faults.conftest import Ledger
from tests.faults.launched import DEADLINE, Launched, Launcher, launcher, outcome, story

TRIALS = 8
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, dataset: Path, repository: Path) -> Iterator[Launcher]:
    with launcher(tmp_path_factory.mktemp("around"), dataset, repository, TRIALS) as launch:
        yield launch


@pytest.fixture(scope="module")
def undisturbed(launch: Launcher) -> list[TrialRecord]:
    return launch("undisturbed").ends()


def searches(launched: Launched) -> bool:
    """Whether some trials have ended and others have not."""
    return f" 2/{TRIALS}  trial" in launched.printed


def test_a_worker_that_is_killed(launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger) -> None:
    launched = launch("worker")
    killed: set[str] = set()  # a trial whose process dies three times before it gets anywhere is given up
    launched.wait_for(lambda: searches(launched))
    while len(killed) < 2:
        running = launched.wait_for(
            lambda: {
                title: pid for title, pid in launched.processes("ray::worker trial").items() if title not in killed
            }
        )
        for title, pid in running.items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.add(title)
    assert launched.ends() == undisturbed
    records = story(launched.study)
    assert any(attempt.kind == "worker lost" for record in records for attempt in record.attempts)
    ledger.enter("two workers killed", "during the search", "went on", records, TRIALS)


@ROOT
def test_little_shared_memory(launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger) -> None:
    own_mounts = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "-"]
    launched = launch("shm", within=own_mounts)
    assert launched.ends() == undisturbed
    ledger.enter("64 MB of /dev/shm", "from the start", "went on", story(launched.study), TRIALS)


def test_few_file_handles(launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger) -> None:
    launched = launch("handles", within=["sh", "-c", 'ulimit -n 256 && exec "$@"', "-"])
    if launched.process.wait(300) == 0:
        assert outcome(launched.study) == undisturbed
        ledger.enter("256 file handles", "from the start", "went on", story(launched.study), TRIALS)
        return
    assert "ulimit -n 4096" in launched.fails()
    ledger.enter("256 file handles", "from the start", "refused, with the way out", [], 0)


CLOCK = """
import os, time

set_back = os.environ.get("CLOCK_SET_BACK", "")
if "CLOCK_HERE_ALONE" in os.environ:
    os.environ.pop("CLOCK_SET_BACK", None)  # what this process starts keeps the true time


def behind(clock, hour):
    return lambda: clock() - (hour if os.path.exists(set_back) else 0)


if set_back:
    time.time, time.time_ns = behind(time.time, 3600.0), behind(time.time_ns, 3600 * 10**9)
"""
"""Python imports this before all else: its clock goes back an hour once a file is there."""


@pytest.mark.parametrize("where", ["driver", "workers too"])
def test_a_clock_that_is_set_back_an_hour(
    launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger, tmp_path: Path, where: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    set_back = tmp_path / "set_back"
    env = {"PYTHONPATH": f"{tmp_path}:{launch.repository}", "CLOCK_SET_BACK": str(set_back)}
    launched = launch(f"clock-{where[:6]}", env=env | ({"CLOCK_HERE_ALONE": "1"} if where == "driver" else {}))
    launched.wait_for(lambda: searches(launched))
    set_back.touch()
    assert launched.ends() == undisturbed
    assert launched.printed.count("the clock was set back by 60 min") == 1
    records = story(launched.study)
    assert all(0 <= record.seconds < 600 for record in records)  # a twin takes none
    assert launched.study.report.exists()
    ledger.enter(f"the clock set back an hour, {where}", "during the search", "went on", records, TRIALS)


# ---------------------------------------------------------------- disks

PHASES = {"baseline": "baseline: ", "search": "search: ", "finals": "finals: ", "verification": "verification: "}
"""What is printed when a phase begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 64 MB in a file, which becomes read-only at an error, as disks that fail do."""
    image, path = tmp_path / "image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], capture_output=True)
    mounted = made.returncode or subprocess.run(
        ["mount", "-o", "loop,errors=remount-ro", image, path], capture_output=True
    )
    if made.returncode or mounted.returncode:
        pytest.skip("no right to mount a disk")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):  # until there is no room
        while True:
            file.write(bytes(4096))


def make_read_only(disk: Path) -> None:
    device = subprocess.run(["findmnt", "-no", "SOURCE", disk], capture_output=True, text=True, check=True).stdout
    (Path("/sys/fs/ext4") / Path(device.strip()).name / "trigger_fs_error").write_text("on purpose")


def make_writable(disk: Path) -> None:
    """Repair it as after such an error."""
    image = disk.with_name("image")
    subprocess.run(["umount", "-l", disk], check=True)
    subprocess.run(["e2fsck", "-p", image], capture_output=True)
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, disk], check=True)


@ROOT
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_is_full_or_read_only(
    launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger, disk: Path, how: str, phase: str
) -> None:
    name = f"{how}-{phase}"
    launched = launch(name, runs=disk)
    launched.wait_for(lambda: PHASES[phase] in launched.printed)
    (fill if how == "full" else make_read_only)(disk)
    if launched.process.wait(DEADLINE) != 0:  # the last phase may find room for what is left
        said = launched.fails()
        assert ("No space left" if how == "full" else "Read-only file system") in said and "--resume" in said
    if how == "full":
        (disk / "ballast").unlink()
    else:
        make_writable(disk)
    again = launch(name, "--resume", runs=disk)
    assert again.ends() == undisturbed
    ledger.enter(f"disk {how}", phase, "by --resume", story(again.study), TRIALS)


# ---------------------------------------------------------------- two drivers, and files that go


def test_two_drivers_of_one_study(launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger) -> None:
    launched = launch("two")
    launched.wait_for(lambda: searches(launched))
    second = launch("two", "--resume")
    assert f"is being run by process {launched.process.pid} on " in second.fails()
    assert launched.ends() == undisturbed
    ledger.enter("a second driver", "during the search", "refused, naming the first", story(launched.study), TRIALS)


@pytest.mark.parametrize("file", ["optuna.journal", "study.yaml"])
def test_a_file_that_is_deleted_while_the_study_runs(
    launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger, file: str
) -> None:
    launched = launch(f"no-{file}")
    launched.wait_for(lambda: searches(launched))
    (launched.study.path / file).unlink()
    assert launched.ends() == undisturbed
    assert f"{file} had gone while the study ran; it was written again" in launched.printed
    ledger.enter(f"{file} deleted", "during the search", "written again", story(launched.study), TRIALS)


def test_a_folder_that_is_moved_while_the_study_runs(
    launch: Launcher, undisturbed: list[TrialRecord], ledger: Ledger
) -> None:
    launched = launch("moved")
    launched.wait_for(lambda: searches(launched))
    away = launched.study.path.with_name("away")
    launched.study.path.rename(away)
    said = launched.fails()
    assert "has gone while the study ran, and its trials with it; put it back" in said
    shutil.rmtree(launched.study.path, ignore_errors=True)
    away.rename(launched.study.path)
    again = launch("moved", "--resume")
    assert again.ends() == undisturbed
    ledger.enter("the folder moved", "during the search", "by --resume", story(again.study), TRIALS)
