from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

from spinlock_dist.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    SpinlockError,
    did_you_mean,
    run_command,
)


def test_did_you_mean_names_the_nearest() -> None:
    assert did_you_mean("varianse", ["variance", "balanced"]) == "; did you mean 'variance'?"


def test_did_you_mean_lists_all_in_order_when_none_is_near() -> None:
    assert did_you_mean("xyz", ["variance", "balanced"]) == "; known: balanced, variance"


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpinlockError("it broke"), 1),
        (CheckpointError("it broke"), 1),
        (ConfigError("it broke"), 2),
        (DataError("it broke"), 2),
    ],
)
def test_a_command_turns_errors_into_one_line_and_a_code(
    error: SpinlockError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(raising(error))
    assert stop.value.code == code
    printed = capsys.readouterr()
    assert printed.err == "error: it broke\n"
    assert printed.out == ""


def test_an_interrupt_exits_as_shells_expect(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(raising(KeyboardInterrupt()))
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_code_of_a_command_is_passed_on(returned: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: returned)
    assert stop.value.code == code


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_divergence_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DivergedError(7, "commitment")))
    assert (error.epoch, error.term) == (7, "commitment")
    assert "epoch 7" in str(error)
    assert "commitment" in str(error)


def test_a_reader_that_has_had_enough_is_no_error_to_tell() -> None:
    code = "from spinlock_dist.errors import run_command; run_command(lambda: print('x' * 1_000_000))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
