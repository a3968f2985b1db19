"""What goes wrong with trials: its kinds, and how often each is tried again.

A trial is charged only for what it may have caused, and only for attempts alone: what befalls a trial batch may be
any one's, and trying again its halves shows whose. A bug or a number that is not finite comes back at every
attempt, so it is not tried again. A lost node, an interrupted or killed driver and a full disk say nothing about the
trial. A process that died may have been preempted, or have died of the trial: it is charged where it got no further
than the attempts before it.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
import torch

from results.records.trial_record import Attempt, Kind, State, TrialRecord
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError
from spinlock_dist.metrics.record import Metrics


class StudyError(SpinlockError):
    """The study cannot go on."""


STATE_OF: dict[Kind, State] = {"non-finite": "diverged", "refused": "refused"}
"""What a trial that ended so is in the record; `failed` otherwise."""

NEVER_RETRIED: tuple[Kind, ...] = ("exception", "non-finite", "refused")
"""They come back at every attempt."""

ATTEMPT_LIMITS: dict[Kind, int] = {"worker lost": 3, "driver lost": 5}
"""At how many attempts in a row that got no further a trial is given up. Kinds in neither list are never charged."""

RESUMES_TOGETHER: tuple[Kind, ...] = ("worker lost", "node lost", "driver lost", "interrupted", "storage")
"""They end what trials in lock step share: such a trial batch goes on together from its snapshot."""

SUSPECT_MEMORY_AFTER = 2
"""After so many such deaths of its process, memory is suspected: the kernel kills without saying why."""

COLLAPSED_UTILIZATION, COLLAPSED_PERPLEXITY = 0.5, 0.2
"""Spinlock's collapsed models use 0.20 to 0.33 of their codes, 2 of 24 in perplexity; healthy ones 0.98, 14 of 24."""

WINDOW = 10
"""Trials looked back on to tell whether a study is hopeless."""

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE}
"""The disk is full, over quota, read-only or gone: every other trial would meet the same."""

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
NODE_LOST = ("node has died", "node was terminated", "node died", "preempt", "node is dead", "node failure")


def failure_kind(error: BaseException) -> Kind:
    """Return the kind of what was raised in a trial."""
    if isinstance(error, DivergedError):
        return "non-finite"
    if isinstance(error, ConfigError):
        return "refused"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY):
        return "out of memory"  # torch on the CPU has no exception of its own
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return "storage"
    return "exception"


def failure_kind_of_death(text: str) -> Kind:
    """Return why a process died, as far as what Ray says of it shows."""
    said = text.lower()
    if any(words in said for words in NODE_LOST):
        return "node lost"
    return "worker lost"


def death_reason(kind: Kind) -> str:
    """Return what a record says of a death."""
    return "its node was lost" if kind == "node lost" else "its process died: killed, out of memory, or crashed"


def attempts_without_progress(attempts: Sequence[Attempt]) -> int:
    """Return how many of the last attempts in a row were charged and got no further than those before them."""
    count, furthest = 0, 0
    for attempt in attempts:
        if attempt.epochs > furthest:
            count = 0
        elif attempt.kind in ATTEMPT_LIMITS:
            count += 1
        furthest = max(furthest, attempt.epochs)
    return count


def resource_doublings(attempts: Sequence[Attempt]) -> int:
    """Return how often the next attempt's room is doubled, so that half as many share a GPU or a node's memory."""
    alone = [attempt for attempt in attempts if not attempt.trial_batch]
    short = sum(attempt.kind == "out of memory" for attempt in alone)
    return short + (attempts_without_progress(alone) >= SUSPECT_MEMORY_AFTER and alone[-1].kind == "worker lost")


def should_retry(attempts: Sequence[Attempt], scaled: bool) -> bool:
    """Return whether a trial whose last attempt failed gets another. `scaled`: there is more room to give it."""
    kind = attempts[-1].kind
    if kind == "out of memory":
        return scaled
    alone = [attempt for attempt in attempts if not attempt.trial_batch]
    return kind not in NEVER_RETRIED and (
        kind not in ATTEMPT_LIMITS or attempts_without_progress(alone) < ATTEMPT_LIMITS[kind]
    )


def retries_together(attempts: Sequence[Sequence[Attempt]]) -> bool:
    """Return whether a trial batch is tried again as it is. `attempts`: those at each of its trials.

    Its process or node was lost, and it does not time after time get no further.
    """
    if any(each[-1].kind not in RESUMES_TOGETHER for each in attempts):
        return False
    return all(
        attempts_without_progress([attempt for attempt in each if attempt.trial_batch]) < SUSPECT_MEMORY_AFTER
        for each in attempts
    )


def collapsed(metrics: Metrics) -> bool:
    """Return whether tokens say nothing about some category, or the codebooks are mostly idle."""
    return (
        metrics.collapsed > 0
        or metrics.utilization < COLLAPSED_UTILIZATION
        or metrics.perplexity_ratio < COLLAPSED_PERPLEXITY
    )


def reason_to_give_up(ended: Sequence[TrialRecord]) -> str | None:
    """Return why a study should be given up, None if not: of the last trials that ended, most failed."""
    recent = ended[-WINDOW:]
    failed = [record for record in recent if record.state == "failed"]
    if len(failed) < 3 or 2 * len(failed) <= len(recent):
        return None
    alike = Counter(_without_numbers(record.reason) for record in failed)
    [(commonest, count)] = alike.most_common(1)
    example = next(record.reason for record in failed if _without_numbers(record.reason) == commonest)
    most = "all" if count == len(failed) else f"{count} of them"
    return f"{len(failed)} of the last {len(recent)} trials failed, {most} because: {example}"


def _without_numbers(reason: str) -> str:
    """Return what errors have in common that name a trial, an epoch or a size."""
    return re.sub(r"\d+", "#", reason)


def killed_by_memory_monitor(error: BaseException) -> bool:
    """Return whether Ray's memory monitor is behind an error; Tune knows no such end of a trial and ends with it."""
    return any(isinstance(each, ray.exceptions.OutOfMemoryError) for each in _chain(error))


@contextmanager
def storage_errors_explained(folder: Path) -> Iterator[None]:
    """Turn what a full, read-only or missing disk leads to, wherever in Ray or Optuna, into a `StudyError`."""
    try:
        yield
    except SpinlockError:
        raise
    except Exception as error:
        broken = next((each for each in _chain(error) if failure_kind(each) == "storage"), None) or _probe(folder)
        if broken is None:
            raise
        raise StudyError(f"{folder} cannot be written: {broken}; mend that, then go on with --resume") from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it, in other processes too."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__


def _probe(folder: Path) -> OSError | None:
    """Return what keeps a small file from being written, None if nothing does."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(2**16))
    except OSError as error:
        return error
    finally:
        probe.unlink(missing_ok=True)
    return None
