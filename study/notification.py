"""`--notify CMD`: a command of the user's that is run when a study ends, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from results.records.stage import Activity

SECONDS = 60.0
"""After which the command is ended."""


def notify(command: str, folder: Path, state: Activity | str, verdict: str) -> None:
    """Run `command` in a shell with the study in its environment: docs/watching.md.

    What it prints goes to stderr. That it fails or takes longer than a minute is said there in a line, and no more:
    the study has ended as it has.
    """
    known = {"SPINLOCK_STUDY": str(folder.resolve()), "SPINLOCK_STATE": state, "SPINLOCK_VERDICT": verdict}
    sys.stdout.flush()
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            env={**os.environ, **known},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        print(f"--notify: {error}", file=sys.stderr)
        return
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        print(f"--notify: ended after {SECONDS:.0f} s: {command}", file=sys.stderr)
        return
    if said:
        print(said.decode(errors="replace").rstrip("\n"), file=sys.stderr)
    if process.returncode:
        print(f"--notify: exit code {process.returncode} from: {command}", file=sys.stderr)
