"""Files and folders are whole or not there, whenever their writer is killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spinlock_dist import atomic_files
from spinlock_dist.atomic_files import replacing, replacing_folder, restore

KILLED_AT = """
import os, sys
from pathlib import Path
from spinlock_dist import atomic_files

calls, limit = 0, int(sys.argv[2])
if sys.argv[3] == "two renames":
    atomic_files._exchanged = lambda one, other: False

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls > limit:
            os._exit(9)
        return function(*args, **kwargs)
    return call

for owner, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (atomic_files.shutil, "rmtree")):
    setattr(owner, name, counted(getattr(owner, name)))
atomic_files._exchanged = counted(atomic_files._exchanged)
with atomic_files.replacing_folder(Path(sys.argv[1])) as draft:
    (draft / "a").write_text("new")
    (draft / "b").write_text("new")
"""


@pytest.mark.parametrize("way", ["exchange", "two renames"])
@pytest.mark.parametrize("steps", range(10))
def test_a_folder_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path: Path, steps: int, way: str) -> None:
    folder = tmp_path / "checkpoint"
    with replacing_folder(folder) as draft:
        (draft / "a").write_text("old")
        (draft / "b").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED_AT, str(folder), str(steps), way], check=False)
    restore(folder)
    assert {file.read_text() for file in folder.iterdir()} in ({"old"}, {"new"})
    assert sorted(file.name for file in folder.iterdir()) == ["a", "b"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as draft:
        draft.write_text("old")
    with replacing_folder(tmp_path / "folder") as draft:
        (draft / "a").write_text("old")

    def fill_the_disk(draft: Path) -> None:
        draft.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), replacing(tmp_path / "file") as draft:
        fill_the_disk(draft)
    with pytest.raises(OSError, match="full"), replacing_folder(tmp_path / "folder") as draft:
        fill_the_disk(draft / "a")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing_folder(tmp_path / "folder") as draft:
            (draft / "a").write_text("x")
        atomic_files.write_json(tmp_path / "file", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "folder" / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
