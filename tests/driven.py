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


@contextmanager
def driven(folder: StudyFolder) -> Iterator[None]:
    """Let a process of its own hold the study meanwhile."""
    command = [sys.executable, "-c", DRIVER, str(folder.path)]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    try:
        yield
    finally:
        driver.communicate("\n")
