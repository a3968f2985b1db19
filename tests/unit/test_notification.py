"""The command that is run when a study ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spinlock_dist.errors import SpinlockError
from study.launch import main
from study.notification import notify


def ending(error: BaseException | None):
    """A study that ends with an error, or with a verdict."""

    def run(config, **_: object) -> SimpleNamespace:
        if error is not None:
            raise error
        return SimpleNamespace(verdict=SimpleNamespace(choice=SimpleNamespace(verdict="better")))

    return run


@pytest.mark.parametrize(
    ("error", "state", "verdict"),
    [
        (None, "finished", "better"),
        (KeyboardInterrupt(), "interrupted", ""),
        (SpinlockError("no space left"), "failed", ""),
        (RuntimeError("a bug"), "failed", ""),
    ],
)
def test_it_is_told_how_the_study_ended_and_changes_nothing(monkeypatch, tmp_path, capfd, error, state, verdict):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.pipeline.run", ending(error))
    monkeypatch.setattr("study.launch._show", lambda result, console: None)
    command = 'echo "$SPINLOCK_STUDY|$SPINLOCK_STATE|$SPINLOCK_VERDICT" > told; echo said; exit 3'
    argv = ["--name", "s", "--notify", command]
    if error is None or isinstance(error, KeyboardInterrupt):
        assert main(argv) == (130 if error else 0)
    else:
        with pytest.raises(type(error), match=str(error)):
            main(argv)
    assert (tmp_path / "told").read_text() == f"{tmp_path / 'runs' / 's'}|{state}|{verdict}\n"
    out, err = capfd.readouterr()
    assert "said" not in out
    assert err == f"said\n--notify: exit code 3 from: {command}\n"


def test_one_that_hangs_is_ended_with_what_it_started(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("study.notification.SECONDS", 0.2)
    notify("sleep 600 & sleep 600", tmp_path, "finished", "better")
    assert "--notify: ended after" in capfd.readouterr().err


def test_it_is_no_setting_of_a_study(tmp_path):
    (tmp_path / "s.yaml").write_text("name: s\nnotify: rm -rf /\n")
    with pytest.raises(SpinlockError, match="unknown setting 'notify'"):
        main(["--config", str(tmp_path / "s.yaml")])
    with pytest.raises(SpinlockError, match="leave --resume, --extend and --notify out"):
        main(["--dry-run", "--notify", "true"])
