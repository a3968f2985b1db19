"""What training prints: a trial by category, two trials side by side, and totals in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spinlock_dist.fitted_table import FittedTable, table_of_figures

if TYPE_CHECKING:
    from spinlock_dist.categories.category import Category
    from spinlock_dist.compression.capacity import CapacityPlan
    from spinlock_dist.metrics.record import EpochMetrics, Metrics
    from spinlock_dist.run import TrialOutcome

TERMS_IN_WORDS = {
    "total": "loss",
    "reconstruction": "rec",
    "commitment": "commit",
    "informativeness": "inform",
    "orthogonality": "ortho",
    "topographic": "topo",
}
"""Loss terms as the progress line calls them, in its order."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared: a trained network by its strategy, or a codec by its name."""

    name: str
    bits: np.ndarray
    """Per sample, of each category `[C]`."""
    scores: dict[str, Metrics]
    """By split, `validation` among them."""


def epoch_in_words(epoch: EpochMetrics, width: int) -> str:
    """Losses, worst category, imbalance and utilization in at most `width` characters.

    Of the loss terms, the total first, there are as many as fit; at least the total.
    """
    score = epoch.validation
    words = [f"{word} {epoch.losses[term]:.3f}" for term, word in TERMS_IN_WORDS.items() if term in epoch.losses]
    rest = f"worst {score.fvu_worst:.3f} imbalance {score.imbalance:.2f}x util {score.utilization:.0%}"
    while len(words) > 1 and len(" ".join([*words, rest])) > width:
        words.pop()
    return " ".join([*words, rest])


def category_table(outcome: TrialOutcome, categories: Sequence[Category]) -> FittedTable:
    """The sizes, errors and codebook use of every category; errors on the validation rows."""
    score, plan = outcome.validation, outcome.tokenizer.plan
    sizes = ["fea-\ntures", "codes", "carried\n/ bits"]  # latent dimensions bound nothing: a dry run lists them
    table = table_of_figures("validation, by category", "category", [*sizes, "FVU", "raw MSE", "used", "dead"], ["FVU"])
    for index, category in enumerate(categories):
        used, dead = codebook_use(score, category.name)
        table.add_row(
            category.name,
            str(len(category)),
            " ".join(plan.sizes_in_words(index)),
            f"{score.bits_carried[category.name]:.1f}/{plan.bits[index].sum():.1f}",
            f"{score.fvu[category.name]:.4f}",
            f"{score.mse_raw[category.name]:.3g}",
            f"{used:.0%}",
            str(dead),
        )
    return table


def plan_table(plan: CapacityPlan, categories: Sequence[Category]) -> FittedTable:
    """The sizes that every category would be trained with."""
    table = table_of_figures("to be trained", "category", ["features", "dims", "codes", "bits", "/feature"], ["bits"])
    for index, category in enumerate(categories):
        bits = plan.bits[index].sum()
        table.add_row(
            category.name,
            str(len(category)),
            " ".join(map(str, plan.dims[index])),
            " ".join(plan.sizes_in_words(index)),
            f"{bits:.1f}",
            f"{bits / len(category):.2f}",
        )
    return table


def comparison_table(baseline: Arm, arm: Arm, categories: Sequence[Category]) -> FittedTable:
    """Bits and FVU of every category under both, and how much lower or higher the second's error is."""
    names = [each.name.replace("_", "_\n") for each in (baseline, arm)]  # so that long ones fit in 80 columns
    headings = [f"{what}\n{name}" for what in ("bits", "FVU") for name in names]
    table = table_of_figures("validation, side by side", "category", ["features", *headings, "change"], ["change"])
    for index, category in enumerate(categories):
        bits = [float(each.bits[index]) for each in (baseline, arm)]
        before, after = (each.scores["validation"].fvu[category.name] for each in (baseline, arm))
        table.add_row(
            category.name,
            str(len(category)),
            *(f"{value:.1f}" for value in bits),
            f"{before:.4f}",
            f"{after:.4f}",
            f"{after / before - 1:+.0%}" if before > 0 else "-",
        )
    return table


def codebook_use(score: Metrics, category: str) -> tuple[float, int]:
    """The mean share of codes in use over a category's codebooks, and how many codes are dead.

    On the training rows, as `Metrics.utilization`. A category whose levels are all switched off has none: (1.0, 0).
    """
    books = [book for book in score.codebooks if book["category"] == category]
    if not books:
        return 1.0, 0
    used = sum(book["used"] / book["codes"] for book in books) / len(books)
    return used, sum(book["codes"] - book["used"] for book in books)


def totals(score: Metrics, label: str) -> str:
    """The figures of one split in three lines, the first beginning with `label`."""
    return (
        f"{label}: imbalance {score.imbalance:.3f}x, FVU mean {score.fvu_mean:.4f}, "
        f"worst {score.fvu_worst:.4f} ({score.worst_category}),\n"
        f"  utilization {score.utilization:.1%}, {score.dead_codes} dead codes, "
        f"{score.carried_in_words()} per sample\n"
        f"  by chance alone, equally good categories would show {score.imbalance_by_chance:.2f}x on these rows"
    )
