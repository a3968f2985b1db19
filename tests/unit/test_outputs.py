"""What is replaced is one's own: every command looks at its output before it works."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import results.export.command
import results.report.command
import spinlock_dist.detokenize
import spinlock_dist.diagnose
import spinlock_dist.generate
import spinlock_dist.tokenize
import spinlock_dist.train
from results.report.command import REPORT
from spinlock_dist.atomic_files import replacing, replacing_folder, write_text
from spinlock_dist.checkpoint_metadata import CHECKPOINT
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.outputs import OutputKind, check_output
from study.cluster.token_file import keep_token_private
from study.validate import NEW_STUDY
from tests.synthetic import write_table
from tests.synthetic_study import build_study

QUICK = ["--epochs", "1", "--device", "cpu", "--set", "model.hidden=8", "--set", "training.batch_size=64"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_study(tmp_path_factory.mktemp("runs"), "s", 30).path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=160)


@pytest.fixture(
    params=["train", "diagnose", "generate", "tokenize", "detokenize", "report", "export", "export spinlock"]
)
def command(request: pytest.FixtureRequest, study: Path) -> Callable[[Path], int]:
    named = [study.name, "--runs", str(study.parent)]
    calls: dict[str, Callable[[Path], int]] = {
        # inputs that are not there: an output that is looked at only after them is not looked at in time
        "train": lambda out: spinlock_dist.train.main(["--dataset", "/no/data.h5", "--out", str(out)]),
        "diagnose": lambda out: spinlock_dist.diagnose.main(["/no/checkpoint", "--html", str(out)]),
        "generate": lambda out: spinlock_dist.generate.main(["--samples", "100000", "--out", str(out)]),
        "tokenize": lambda out: spinlock_dist.tokenize.main(["/no/checkpoint", "/no/data.h5", "--out", str(out)]),
        "detokenize": lambda out: spinlock_dist.detokenize.main(["/no/checkpoint", "/no/tokens", "--out", str(out)]),
        "report": lambda out: results.report.command.main([*named, "--out", str(out)]),
        "export": lambda out: results.export.command.main([*named, "--out", str(out)]),
        "export spinlock": lambda out: results.export.command.main([*named, "--format", "spinlock", "--out", str(out)]),
    }
    return calls[request.param]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_and_folders_of_others_are_refused_and_stay(command: Callable[[Path], int], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "notes.txt").write_text("# notes\n")
    (tmp_path / "page.html").write_text("<!doctype html><title>mine</title>")
    (tmp_path / "link").symlink_to(tmp_path / "notes.txt")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    before = content(tmp_path)
    for name in ("thesis", "notes.txt", "page.html", "link", "dangling", "pipe", "notes.txt/below", "n" * 256):
        with pytest.raises((ConfigError, DataError), match=r"--out|--html|exists and was not made") as refusal:
            command(tmp_path / name)
        assert name[:20] in str(refusal.value)
    for special in (Path("/dev/null"), Path("/dev/stdout"), Path("/proc/new")):
        with pytest.raises((ConfigError, DataError)):
            command(special)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert content(tmp_path) == before
    assert (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()


def test_train_replaces_its_own_checkpoint_and_no_other_folder(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    out.mkdir()  # an empty folder holds nothing to lose
    command = ["--dataset", str(dataset), *QUICK, "--json", "--out", str(out)]
    assert spinlock_dist.train.main(command) == 0
    assert spinlock_dist.train.main(command) == 0
    meta = (out / "meta.json").read_text()
    (out / "meta.json").write_text(meta[: len(meta) // 2])
    with pytest.raises(ConfigError, match="damaged one; --overwrite replaces it"):
        spinlock_dist.train.main(command)
    assert spinlock_dist.train.main([*command, "--overwrite"]) == 0
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else than a checkpoint"):
        spinlock_dist.train.main([*command, "--overwrite"])
    assert (out / "notes.txt").read_text() == "mine"


def test_a_checkpoint_of_a_study_is_not_replaced_unless_asked_for(dataset: Path, tmp_path: Path) -> None:
    args = ["--dataset", str(dataset), *QUICK, "--json", "--out"]
    assert spinlock_dist.train.main([*args, str(tmp_path / "c")]) == 0
    (tmp_path / "c" / "training.state").unlink()  # which a study does not keep
    before = content(tmp_path / "c")
    with pytest.raises(ConfigError, match="holds a checkpoint of a study, of an earlier version, or a damaged one"):
        spinlock_dist.train.main([*args, str(tmp_path / "c")])
    with pytest.raises(ConfigError, match=r"c/t\.parquet: lies in the checkpoint .*/c; name a place beside it"):
        spinlock_dist.tokenize.main([str(tmp_path / "c"), str(dataset), "--out", str(tmp_path / "c" / "t.parquet")])
    with pytest.raises(ConfigError, match="lies in the checkpoint"):
        spinlock_dist.train.main([*args, str(tmp_path / "c" / "deeper" / "still")])
    assert content(tmp_path / "c") == before
    assert spinlock_dist.train.main([*args, str(tmp_path / "c"), "--overwrite"]) == 0


def test_what_was_measured_is_shown_although_the_checkpoint_cannot_be_written(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "checkpoint"
    monkeypatch.setattr(spinlock_dist.train, "check_output", lambda *_, **__: out.write_text("came meanwhile"))
    with pytest.raises(spinlock_dist.train.SpinlockError, match="the checkpoint could not be written"):
        spinlock_dist.train.main(["--dataset", str(dataset), *QUICK, "--json", "--out", str(out)])
    assert '"imbalance"' in capsys.readouterr().out
    assert out.read_text() == "came meanwhile"


def test_reports_and_exports_replace_their_own(study: Path, tmp_path: Path) -> None:
    named = [study.name, "--runs", str(study.parent), "--out"]
    for main, out in (
        (results.report.command.main, tmp_path / "r.html"),
        (results.export.command.main, tmp_path / "e.yaml"),
    ):
        assert main([*named, str(out)]) == 0
        assert main([*named, str(out)]) == 0
    assert REPORT.is_ours(tmp_path / "r.html")
    with pytest.raises(ConfigError, match="something else than an export"):
        results.export.command.main([*named, str(tmp_path / "r.html")])
    with pytest.raises(ConfigError, match="something else than a report"):
        results.report.command.main([*named, str(tmp_path / "e.yaml"), "--overwrite"])


def test_a_report_of_an_earlier_version_is_replaced_on_request(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html>\n<title>s: study report</title>")
    with pytest.raises(ConfigError, match="of an earlier version"):
        check_output(page, REPORT)
    check_output(page, REPORT, overwrite=True)


def test_the_files_beside_an_export_are_looked_at_too(study: Path, tmp_path: Path) -> None:
    named = [study.name, "--runs", str(study.parent), "--format", "spinlock", "--out", str(tmp_path / "e.yaml")]
    (tmp_path / "e.columns.json").write_text('{"mine": [1]}')
    with pytest.raises(ConfigError, match=r"e\.columns\.json: holds something else"):
        results.export.command.main(named)
    (tmp_path / "e.columns.json").unlink()
    assert results.export.command.main(named) == 0
    assert results.export.command.main(named) == 0


@pytest.mark.parametrize("in_the_way", ["new.h5.partial", "new.h5.lock"])
def test_generate_touches_nothing_beside_its_file(tmp_path: Path, in_the_way: str) -> None:
    if in_the_way.endswith("partial"):
        (tmp_path / in_the_way).mkdir()
        (tmp_path / in_the_way / "mine").write_text("mine")
    else:
        (tmp_path / in_the_way).write_text("mine")
    before = content(tmp_path)
    with pytest.raises(DataError, match="is in the way"):
        spinlock_dist.generate.main(["--samples", "20", "--out", str(tmp_path / "new.h5")])
    assert {name: bytes_ for name, bytes_ in content(tmp_path).items() if name in before} == before


def test_the_writer_itself_replaces_no_device_and_no_folder(tmp_path: Path) -> None:
    for write in (replacing, replacing_folder):
        with pytest.raises(FileExistsError), write(Path("/dev/null")):
            pytest.fail("nothing may be written")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "folder", "x")
    write_text(tmp_path / ("n" * 255), "a name as long as may be")


def test_a_checkpoint_follows_the_umask(dataset: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        spinlock_dist.train.main(["--dataset", str(dataset), *QUICK, "--json", "--out", str(tmp_path / "c")])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "c").iterdir()}
    assert set(modes.values()) == {0o640}
    assert CHECKPOINT.is_ours(tmp_path / "c")


@pytest.mark.parametrize("there", [True, False])
def test_rays_token_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    token = tmp_path / ".ray" / "auth_token"
    if there:
        write_text(token, "a" * 64)
    keep_token_private()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64


def test_a_folder_without_a_description_is_adopted_by_no_new_study(tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    check_output(tmp_path, NEW_STUDY)
    (tmp_path / "optuna.journal").write_text("trials of another study")
    with pytest.raises(ConfigError, match="something else"):
        check_output(tmp_path, NEW_STUDY, "--name")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    kind = OutputKind(name="a page", is_ours=lambda _: False)
    with pytest.raises(ConfigError, match="cannot be written: /proc"):
        check_output(Path("/proc/page.html"), kind)
    check_output(tmp_path / "new" / "folders" / "page.html", kind)
    assert not (tmp_path / "new").exists()
