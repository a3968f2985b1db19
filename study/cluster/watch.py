"""The end of Ray itself, in our words: its C++ code ends this process with a line of its own, or with none."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray

EVERY_SECONDS = 0.25
"""Ray itself ends this process a second after its node's manager, a minute after the cluster's."""
REFUSED_TIMES = 2
STEP_SECONDS = 60
"""A clock that is set back by less, as time servers do, holds nothing up for long."""
LEAVE_SECONDS = 10


@contextmanager
def watched() -> Iterator[None]:
    """End this process with a line if the cluster's control or this node's manager dies meanwhile.

    A line on stderr says if the clock is set back: what Ray was about to place then waits until it has caught up.
    Nothing is lost by that: the journal has every trial that had an outcome, and snapshots have the others.
    """
    over = threading.Event()
    threading.Thread(target=_watch, args=(over, _parts(), _leave), daemon=True, name="watch-ray").start()
    threading.Thread(target=_watch_clock, args=(over, time.time, _warn), daemon=True, name="watch-clock").start()
    try:
        yield
    finally:
        over.set()


def _parts() -> dict[str, tuple[str, int]]:
    """Where the parts listen without which nothing goes on, by what they are."""
    here = ray.get_runtime_context()
    host, _, port = here.gcs_address.rpartition(":")
    found = {"control process (GCS)": (host, int(port))}
    for node in ray.nodes():
        if node["NodeID"] == here.get_node_id():
            found["node manager (raylet)"] = (node["NodeManagerAddress"], node["NodeManagerPort"])
    return found


def _watch(over: threading.Event, parts: dict[str, tuple[str, int]], leave: Callable[[str], None]) -> None:
    refused = dict.fromkeys(parts, 0)
    while not over.wait(EVERY_SECONDS):
        for part, address in parts.items():
            refused[part] = refused[part] + 1 if _refuses(address) else 0
            if refused[part] >= REFUSED_TIMES and not over.is_set():
                leave(
                    f"error: Ray's {part} has died: killed, or out of memory. Every trial that had an outcome is kept; "
                    "go on with --resume"
                )
                return


def _watch_clock(over: threading.Event, clock: Callable[[], float], say: Callable[[str], None]) -> None:
    ahead = clock() - time.monotonic()
    while not over.wait(EVERY_SECONDS):
        now = clock() - time.monotonic()
        if ahead - now > STEP_SECONDS:
            say(
                f"the clock was set back by {(ahead - now) / 60:.0f} min; Ray may start no process until it has caught "
                "up: if nothing goes on, stop the study (Ctrl-C) and go on with --resume"
            )
        ahead = now


def _refuses(address: tuple[str, int]) -> bool:
    """Whether nothing listens there. One that is stopped or busy answers late, and is not dead."""
    try:
        socket.create_connection(address, timeout=EVERY_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _warn(said: str) -> None:
    print(said, file=sys.stderr, flush=True)


def _leave(said: str) -> None:
    """Print, take down what is left of Ray, and end the process: calls into Ray may never return."""
    print(said, file=sys.stderr, flush=True)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    shutdown = threading.Thread(target=ray.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(LEAVE_SECONDS)
    os._exit(1)
