"""What training prints: a trial by category, two trials side by side, and totals in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from spinlock_dist.categories.category import Category
    from spinlock_dist.metrics.record import Metrics
    from spinlock_dist.run import TrialOutcome


def category_table(outcome: TrialOutcome, categories: Sequence[Category]) -> Table:
    """Return the sizes, errors and codebook use of every category; errors on the validation rows."""
    score, plan = outcome.validation, outcome.tokenizer.plan
    table = _table(
        "validation, by category", ["category", "features", "dims", "codes", "bits", "FVU", "raw MSE", "used", "dead"]
    )
    for index, category in enumerate(categories):
        used, dead = codebook_use(score, category.name)
        table.add_row(
            category.name,
            str(len(category)),
            " ".join(map(str, plan.dims[index])),
            " ".join(plan.sizes_in_words(index)),
            f"{plan.bits[index].sum():.1f}",
            f"{score.fvu[category.name]:.4f}",
            f"{score.mse_raw[category.name]:.4g}",
            f"{used:.0%}",
            str(dead),
        )
    return table


def comparison_table(baseline: TrialOutcome, outcome: TrialOutcome, categories: Sequence[Category]) -> Table:
    """Return bits and FVU of every category under both, and how much lower or higher the second's error is."""
    names = [each.config.compression.strategy for each in (baseline, outcome)]
    headings = [f"{what}\n{name}" for what in ("bits", "FVU") for name in names]
    table = _table("validation, side by side", ["category", "features", *headings, "change"])
    for index, category in enumerate(categories):
        bits = [float(each.tokenizer.plan.bits[index].sum()) for each in (baseline, outcome)]
        before, after = (each.validation.fvu[category.name] for each in (baseline, outcome))
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
    """Return the mean share of codes in use over a category's codebooks, and how many codes are dead.

    On the training rows, as `Metrics.utilization`. A category whose levels are all switched off has none: (1.0, 0).
    """
    books = [book for book in score.codebooks if book["category"] == category]
    if not books:
        return 1.0, 0
    used = sum(book["used"] / book["codes"] for book in books) / len(books)
    return used, sum(book["codes"] - book["used"] for book in books)


def totals(score: Metrics, label: str) -> str:
    """Return the figures of one split in three lines, the first beginning with `label`."""
    return (
        f"{label}: imbalance {score.imbalance:.3f}x, FVU mean {score.fvu_mean:.4f}, "
        f"worst {score.fvu_worst:.4f} ({score.worst_category}),\n"
        f"  utilization {score.utilization:.1%}, {score.dead_codes} dead codes, "
        f"{score.bits_per_sample:.1f} bits per sample\n"
        f"  by chance alone, equally good categories would show {score.imbalance_by_chance:.2f}x on these rows"
    )


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "category" else "right", no_wrap=True)
    return table
