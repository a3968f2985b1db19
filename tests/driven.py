"""A study that another process drives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from results.records.study_folder import StudyFolder

DRIVER = """
import sys
from pathlib import Path
from results.records.study_folder import StudyFolder
with StudyFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    input()
"""
WATCHER = """
import sys, threading
from pathlib import Path
from results.records.study_folder import StudyFolder
asked_to_stop = threading.Thread(target=input)
asked_to_stop.start()
print("looking", flush=True)
while asked_to_stop.is_alive():
    StudyFolder(Path(sys.argv[1])).is_running
"""


@contextmanager
def driven(folder: StudyFolder) -> Iterator[None]:
    """Let a process of its own hold the study meanwhile."""
    with _process(DRIVER, folder, "held"):
        yield


@contextmanager
def watched(folder: StudyFolder) -> Iterator[None]:
    """Let a process of its own ask all the time meanwhile whether the study is running."""
    with _process(WATCHER, folder, "looking"):
        yield


@contextmanager
def _process(code: str, folder: StudyFolder, ready: str) -> Iterator[None]:
    command = [sys.executable, "-c", code, str(folder.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{ready}\n"
    try:
        yield
    finally:
        process.communicate("\n")
    assert process.returncode == 0
