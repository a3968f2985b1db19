"""What is tried again: decisions on the attempts at a trial, by the rules in `retry_rules`, and when a study gives up.

A trial is charged only for failures that it may have caused, and only for attempts alone: the failure of a trial batch
may be the fault of any of its trials, and retrying its halves shows which.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from results.records.trial_record import Attempt, Kind, TrialRecord
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import Metrics
from study.worker.retry_rules import RETRY_RULES, WORKER_LOST, rule_of


class StudyError(SpinlockError):
    """The study cannot go on."""


BATCH_LOSSES_WITHOUT_PROGRESS = 2
"""After so many losses in a row without progress one of a batch's trials is suspected, and the batch is split."""

COLLAPSED_UTILIZATION, COLLAPSED_PERPLEXITY = 0.5, 0.2
"""Spinlock's collapsed models use 0.20 to 0.33 of their codes, 2 of 24 in perplexity; healthy ones 0.98, 14 of 24."""

WINDOW = 10
"""The last trials, which decide whether a study is given up."""


def failure_kind(error: BaseException) -> Kind:
    """The kind of an exception raised in a trial: the first whose rule recognizes it, else `exception`."""
    return next((kind for kind, rule in RETRY_RULES.items() if rule.recognizes(error)), "exception")


def failure_kind_of_death(text: str) -> Kind:
    """Why a process died, as far as Ray's words for it show; else `worker lost`."""
    said = text.lower()
    named = (kind for kind, rule in RETRY_RULES.items() if any(words in said for words in rule.dead_process))
    return next(named, "worker lost")


def death_reason(kind: Kind) -> str:
    """What a record says of a process that died."""
    return rule_of(kind).reason or WORKER_LOST.reason


def attempts_without_progress(attempts: Sequence[Attempt]) -> int:
    """How many attempts in a row, up to the last, were charged and got no further than those before them."""
    count, furthest = 0, 0
    for attempt in attempts:
        if attempt.epochs > furthest:
            count = 0
        elif rule_of(attempt.kind).attempts_without_progress is not None:
            count += 1
        furthest = max(furthest, attempt.epochs)
    return count


def resource_doublings(attempts: Sequence[Attempt]) -> int:
    """How often the next attempt's resources are doubled, so that half as many share a GPU or a node's memory."""
    alone = [attempt for attempt in attempts if not attempt.trial_batch]
    if not alone:
        return 0
    short = sum(rule_of(attempt.kind).doubles_resources for attempt in alone)
    suspicious = rule_of(alone[-1].kind).suspects_memory_after
    return short + (suspicious is not None and attempts_without_progress(alone) >= suspicious)


def should_retry(attempts: Sequence[Attempt], scaled: bool) -> bool:
    """Whether a trial whose last attempt failed gets another. `scaled`: there are more resources to give it."""
    rule = rule_of(attempts[-1].kind)
    if not rule.retried:
        return False
    alone = [attempt for attempt in attempts if not attempt.trial_batch]
    if alone and _failed_everywhere(alone):
        return False
    if rule.doubles_resources:
        return scaled
    if rule.attempts_without_progress is None:
        return True
    return attempts_without_progress(alone) < rule.attempts_without_progress


def retries_together(attempts: Sequence[Sequence[Attempt]]) -> bool:
    """Whether a trial batch is tried again as it is. `attempts`: those at each of its trials.

    It is if what it shares was lost, its process or node, and that has not happened twice without progress.
    """
    if not all(rule_of(each[-1].kind).resumes_together for each in attempts):
        return False
    together = [[attempt for attempt in each if attempt.trial_batch] for each in attempts]
    return not any(
        attempts_without_progress(each) >= BATCH_LOSSES_WITHOUT_PROGRESS or _failed_everywhere(each)
        for each in together
        if each
    )


def failed_everywhere(places: Sequence[tuple[str, str]], kind: Kind = "device fault") -> bool:
    """Whether failures on these devices, one an attempt, are so many that it is not a device's fault."""
    rule = rule_of(kind)
    if rule.attempts is None or rule.on_devices is None:
        return False
    return len(places) >= rule.attempts or len(set(places)) >= rule.on_devices


def _failed_everywhere(attempts: Sequence[Attempt]) -> bool:
    kind = attempts[-1].kind
    return failed_everywhere([(each.node, each.device) for each in attempts if each.kind == kind], kind)


def collapsed(metrics: Metrics) -> bool:
    """Whether some category is not encoded at all, or most codes are idle."""
    return (
        metrics.collapsed > 0
        or metrics.utilization < COLLAPSED_UTILIZATION
        or metrics.perplexity_ratio < COLLAPSED_PERPLEXITY
    )


def reason_to_give_up(ended: Sequence[TrialRecord]) -> str | None:
    """Why the study should be given up: most of the last trials failed. None if they did not."""
    recent = ended[-WINDOW:]
    failed = [record for record in recent if record.state == "failed"]
    if len(failed) < 3 or 2 * len(failed) <= len(recent):
        return None
    alike = Counter(_without_numbers(record.reason) for record in failed)
    [(commonest, count)] = alike.most_common(1)
    example = next(record.reason for record in failed if _without_numbers(record.reason) == commonest)
    most = "all" if count == len(failed) else f"{count} of them"
    said = f"{len(failed)} of the last {len(recent)} trials failed, {most} because: {example}"
    return said + _on_one_device(ended, failed)


def _on_one_device(ended: Sequence[TrialRecord], failed: Sequence[TrialRecord]) -> str:
    """A hint at the device on which all of `failed` ran, if trials of other devices did not fail."""
    bad = {(record.node, record.device) for record in failed}
    served = {(record.node, record.device) for record in ended if record.state == "complete"}
    if len(bad) > 1 or not served - bad:
        return ""
    [(node, device)] = bad
    return f"; all of them on {device} of {node}, and others complete trials: is it broken?"


def _without_numbers(reason: str) -> str:
    """A reason without its numbers: errors that differ only in a trial, an epoch or a size count as one."""
    return re.sub(r"\d+", "#", reason)


def killed_by_memory_monitor(error: BaseException) -> bool:
    """Whether Ray's memory monitor caused an error. Tune has no such end of a trial, and ends itself."""
    return any(isinstance(each, ray.exceptions.OutOfMemoryError) for each in _chain(error))


@contextmanager
def storage_errors_explained(folder: Path) -> Iterator[None]:
    """Turn an error that a full, read-only or missing disk, a missing file or a lost Ray caused into a `StudyError`."""
    try:
        yield
    except SpinlockError:
        raise
    except Exception as error:
        chain = list(_chain(error))
        gone = next((each.filename for each in chain if isinstance(each, FileNotFoundError) and each.filename), "")
        if not (folder / "prepared").exists() and str(gone).startswith(f"{folder}/"):
            raise StudyError(
                f"{folder} has gone while the study ran, and its trials with it; put it back, or restore it from a "
                "copy, and go on with --resume; or begin again under another --name"
            ) from None
        if str(gone).startswith(f"{folder}/"):
            raise StudyError(f"{gone} has gone while the study ran; restore it, then resume with --resume") from None
        broken = next((each for each in chain if failure_kind(each) == "storage"), None) or _probe(folder)
        in_a_task = any(isinstance(each, ray.exceptions.RayTaskError) for each in chain)
        if broken is None and not in_a_task and any(isinstance(each, ray.exceptions.RayError) for each in chain):
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise StudyError(
                f"Ray was lost: {reason}. Every trial that had an outcome is kept; resume with --resume"
            ) from None
        if broken is None:
            raise
        raise StudyError(f"{folder} cannot be written: {broken}; fix that, then resume with --resume") from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, those in other processes too."""
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__


def _probe(folder: Path) -> OSError | None:
    """The error of writing a small file; None if that works."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(2**16))
    except OSError as error:
        return error
    finally:
        probe.unlink(missing_ok=True)
    return None
