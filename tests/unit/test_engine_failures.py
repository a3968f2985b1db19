"""What the engine's failures are called, and what is said to do about them."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from spinlock_dist.cores import available_cores
from study.cluster.connection_errors import compiled_parts_muted, connection_error, way_out
from study.cluster.watch import _watch, _watch_clock
from study.worker.retry_policy import StudyError, storage_errors_explained


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /x", "RAY_TMPDIR to a shorter"),
        ("[Errno 24] Too many open files: '/x'", "ulimit -n 4096"),
        ("[Errno 13] Permission denied: '/home/x/.ray'", "HOME and RAY_TMPDIR"),
        ("[Errno 30] Read-only file system: '/home/x/.ray'", "HOME and RAY_TMPDIR"),
        ("[Errno 28] No space left on device", "another disk"),
        ("The current node timed out during startup", "too busy or short of memory"),
    ],
)
def test_a_ray_that_does_not_start_comes_with_a_way_out(said: str, wanted: str) -> None:
    assert wanted in way_out(OSError(said))


def test_a_cluster_that_cannot_be_joined_is_told_by_its_cause() -> None:
    token = connection_error(ray.exceptions.AuthenticationError("InvalidAuthToken"), "10.0.0.1:6379")
    assert str(token).startswith("Ray's token for 10.0.0.1:6379 is missing or another's") and "RAY_AUTH_TOKEN" in str(
        token
    )
    gone = connection_error(ConnectionError("ray.init() timed out\nStack trace"), "10.0.0.1:6379")
    assert str(gone) == "no Ray cluster at 10.0.0.1:6379: ray.init() timed out; is it one, and does it still run?"
    here = connection_error(OSError("[Errno 28] No space left on device"), None)
    assert str(here).startswith("no Ray cluster on this machine: [Errno 28]") and "another disk" in str(here)
    assert all(error.exit_code == 2 for error in (token, gone, here))


def test_what_compiled_parts_write_stays_off_the_terminal_for_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    with suppress(ZeroDivisionError), compiled_parts_muted():
        os.write(2, b"gcs_client.cc:210: RPC error")
        raise ZeroDivisionError
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_a_part_of_ray_that_dies_is_named_once(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        parts = {"control process (GCS)": server.getsockname()}
        over = threading.Event()
        thread = threading.Thread(target=_watch, args=(over, parts, said.append))
        thread.start()
        assert not over.wait(0.6) and said == []  # it listens
    thread.join(10)
    assert (
        len(said) == 1 and said[0].startswith("error: Ray's control process (GCS) has died") and "--resume" in said[0]
    )


def test_nobody_is_called_dead_when_all_is_over() -> None:
    said: list[str] = []
    over = threading.Event()
    over.set()
    _watch(over, {"control process (GCS)": ("127.0.0.1", 9)}, said.append)
    assert said == []


def test_a_file_that_goes_while_a_study_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    with (
        pytest.raises(StudyError, match=r"optuna\.journal has gone while the study ran; restore it, then resume"),
        storage_errors_explained(tmp_path),
    ):
        (tmp_path / "optuna.journal").stat()


def test_a_folder_that_goes_while_a_study_runs_takes_its_trials_with_it(tmp_path: Path) -> None:
    with (
        pytest.raises(
            StudyError, match=r"has gone while the study ran, and its trials with it; put it back, or restore"
        ),
        storage_errors_explained(tmp_path),
    ):
        (tmp_path / "optuna.journal").stat()


def test_a_lost_ray_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"Ray was lost: .*; resume with --resume"), storage_errors_explained(tmp_path):
        raise ray.exceptions.LocalRayletDiedError


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_clock_that_is_set_back_is_named_with_what_follows() -> None:
    said: list[str] = []
    over, back = threading.Event(), 0.0

    def clock() -> float:
        return time.time() - back

    thread = threading.Thread(target=_watch_clock, args=(over, clock, said.append))
    thread.start()
    assert not over.wait(0.6) and said == []
    back = 3600.0
    while not said:
        time.sleep(0.05)
    over.set()
    thread.join(10)
    assert len(said) == 1 and said[0].startswith("the clock was set back by 60 min;") and "--resume" in said[0]
