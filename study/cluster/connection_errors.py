"""What a Ray that does not start, or cannot be joined, is called, and what to do about it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from spinlock_dist.command import tool
from study.cluster.resources import ResourceError

WAYS_OUT = {
    "AF_UNIX path length": "set RAY_TMPDIR to a shorter path, e.g. /tmp",
    "Too many open files": "raise the limit on open files: ulimit -n 4096",
    "No space left": "free some, or set RAY_TMPDIR to another disk",
    "Permission denied": "set HOME and RAY_TMPDIR to folders that can be written",
    "Read-only file system": "set HOME and RAY_TMPDIR to folders that can be written",
    "No such file or directory": "set HOME and RAY_TMPDIR to folders that are there and can be written",
    "": "the machine may be too busy or short of memory: try again when it has less to do",
}
"""What to do about a Ray that does not start, by a part of what it says; the last is for all else."""

ANOTHER_TOKEN = "InvalidAuthToken"
"""What Ray's control process says to who has another token; it is raised as a cluster that cannot be reached."""


def connection_error(error: Exception, address: str | None) -> ResourceError:
    """What Ray raised while it was started here, or joined at `address`, in a line with the way out."""
    if isinstance(error, ray.exceptions.AuthenticationError) or ANOTHER_TOKEN in str(error.__cause__):
        return ResourceError(
            f"Ray's token for {address or 'this machine'} is missing or another's: where the cluster was started "
            f"`{tool('ray')} get-auth-token` prints it; set RAY_AUTH_TOKEN here"
        )
    if versions := _unlike_versions(str(error)):
        return ResourceError(f"the cluster at {address} has {versions}; they must be the same on both sides")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if address is None:
        return ResourceError(f"no Ray cluster on this machine: {reason}; {way_out(error)}")
    return ResourceError(f"no Ray cluster at {address}: {reason}; is it one, and does it still run?")


def way_out(error: Exception) -> str:
    """What to do about a Ray that does not start here, by what its message says."""
    said = str(error)
    return next((hint for sign, hint in WAYS_OUT.items() if sign in said), WAYS_OUT[""])


def _unlike_versions(said: str) -> str:
    """Those of the cluster and those here, from the paragraph in which Ray lists both; empty if it is another."""
    listed = re.findall(r"^\s*(?:Ray|Python): (\S+)$", said, re.MULTILINE)
    if "Version mismatch" not in said or len(listed) != 4:
        return ""
    theirs, here = (f"Ray {ray_version} and Python {python}" for ray_version, python in (listed[:2], listed[2:]))
    return f"{theirs}, this environment {here}"


@contextmanager
def compiled_parts_muted() -> Iterator[None]:
    """Keep what Ray's compiled parts write to stderr, some lines a second, off the terminal: it is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
