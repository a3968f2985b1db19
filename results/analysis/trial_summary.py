"""How the trials of a search ended: all of them in a sentence, or one of them as a story."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.analysis.levelling import levelling
from results.records.guards import excess_in_words
from results.records.stage import OUTCOMES
from results.records.trial_record import Attempt, TrialRecord
from spinlock_dist.live_settings import is_live
from spinlock_dist.metrics.record import Metrics

COLLAPSED, DUPLICATE = "collapsed codebook", "duplicate"


def count_outcomes(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Number of trials in all, by state, collapsed (completed or stopped) and feasible."""
    states = [record.state for record in records]
    return {
        "trials": len(records),
        **{state: states.count(state) for state in OUTCOMES},
        "collapsed": sum(record.kind == COLLAPSED for record in records),
        "feasible": sum(record.feasible for record in records),
    }


def outcomes_in_words(records: Sequence[TrialRecord]) -> str:
    """The counts as a sentence."""
    counts = count_outcomes(records)
    complete, feasible, collapsed = counts["complete"], counts["feasible"], counts["collapsed"]
    parts = [f"{complete} of {counts['trials']} trials completed, {feasible} of them feasible"]
    parts += [f"{counts[state]} {words}" for state, words in OUTCOMES.items() if counts[state] and state != "complete"]
    unfit = f" {collapsed} collapsed and cannot be the best." if collapsed else ""
    return "; ".join(parts) + "." + unfit


# ---------------------------------------------------------------- one trial


def tell_story(record: TrialRecord, baseline: Metrics | None) -> str:
    """A trial's history: how it ended, attempts, scores, guards, levelling and settings."""
    ending = record.reason or ("feasible" if record.feasible else "not feasible")
    kind = f" ({record.kind})" if record.kind else ""
    lines = [("ended", f"{OUTCOMES[record.state]}{kind}: {ending}")]
    lines += attempt_lines(record.attempts)
    if record.metrics is not None:
        lines += _scores(record, record.metrics, baseline)
    worst = [
        f"{report['epoch']:g}: {report['fvu_worst']:.3f}" for report in record.learning_curve if "fvu_worst" in report
    ]
    lines += [("epochs", "  ".join(worst) + "   (FVU of the worst category)")] if worst else []
    lines += setting_lines(record.params)
    return in_columns(lines)


def attempt_lines(attempts: Sequence[Attempt]) -> list[tuple[str, str]]:
    """A line per attempt: when, where, on what, how far it got, how it ended."""
    lines = []
    for number, attempt in enumerate(attempts, start=1):
        room = f"{attempt.cpus:g} CPU" + (f", {attempt.gpus:.3g} GPU" if attempt.gpus else "")
        far = f"epochs {attempt.start} to {attempt.epochs}" if attempt.ended else "running, or interrupted"
        end = f"{attempt.kind}: {attempt.reason}" if attempt.kind else ""
        trial_batch = f"in {attempt.trial_batch.replace('-', ' ')}" if attempt.trial_batch else ""
        device = f"{attempt.device} ({attempt.model})" if attempt.model else attempt.device
        parts = (str(number), attempt.began, attempt.node, device, room, trial_batch, far, end)
        lines.append(("attempts" if number == 1 else "", "  ".join(part for part in parts if part)))
    return lines


def setting_lines(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line per searched setting; of one that nothing reads beside the others it is said."""
    told = [
        f"{name} {value}" + ("" if is_live(name, params.get) else "  (no effect)") for name, value in params.items()
    ]
    return [("settings" if place == 0 else "", line) for place, line in enumerate(told)]


def in_columns(lines: Sequence[tuple[str, str]]) -> str:
    """Lines with their headings in a column of their own."""
    return "\n".join(f"{heading:<10}{text}".rstrip() for heading, text in lines)


def _scores(record: TrialRecord, metrics: Metrics, baseline: Metrics | None) -> Iterator[tuple[str, str]]:
    imbalance, worst, mean = (metrics.in_words(name) for name in ("imbalance", "fvu_worst", "fvu_mean"))
    yield "scores", f"imbalance {imbalance}  worst {worst} ({metrics.worst_category})  mean {mean}  (validation rows)"
    chance = f"by chance {metrics.imbalance_by_chance:.2f}x"
    if metrics.estimates:
        yield (
            "spread",
            f"{metrics.in_words('spread')}: five worst categories over five best; {chance}, if all were equal",
        )
    collapsed = f"{metrics.collapsed} categories collapsed, " if metrics.collapsed else ""
    yield "codes", f"{collapsed}{metrics.utilization:.0%} in use, perplexity / K {metrics.perplexity_ratio:.2f}"
    yield "bits", metrics.carried_in_words()
    if record.guards:
        kept = [name for name, value in record.guards.items() if value <= 0]
        told = (
            f"breaks {excess_in_words(record.guards)}" if record.broken_guards else "",
            f"keeps {', '.join(kept)}" if kept else "",
        )
        yield "guards", "; ".join(each for each in told if each)
    if baseline is not None:
        gain = levelling(metrics, baseline)
        factors = f"help x{10**gain.worst_helped:.2f}, hurt x{10**gain.best_hurt:.2f}"
        yield (
            "levelling",
            f"{factors}  (the imbalance fell by their product: the worst category improved, the best got worse)",
        )
