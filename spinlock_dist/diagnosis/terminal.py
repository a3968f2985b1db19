"""A diagnosis in the terminal, of any width."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding

from spinlock_dist.diagnosis.causes import causes, changed_data, raw_imbalance
from spinlock_dist.diagnosis.record import CategoryDiagnosis, Diagnosis
from spinlock_dist.fitted_table import table_of_figures

EXPLAINED = 3
"""Categories whose causes are spelled out: the worst ones."""
LISTED = 20
"""Features of a category that are listed: the worst ones."""


def show_overview(console: Console, diagnosis: Diagnosis) -> None:
    """Print all categories, the worst first, then the causes of the worst and of the largest raw error."""
    raw = ("raw\nMSE", "raw\nvariance", "raw\n%")
    figures = ("fea-\ntures", "carried\n/ bits", "FVU", "/ref", *raw, "dead")
    table = table_of_figures("", "category", figures, stays=("FVU",))
    for each in diagnosis.categories:
        table.add_row(
            each.name,
            str(len(each.features)),
            f"{each.bits_carried:.1f}/{each.bits:.1f}",
            f"{each.fvu:.4f}",
            f"{each.distance:.2f}",
            f"{each.mse_raw:.2g}",
            f"{each.variance_raw:.2g}",
            f"{100 * each.raw_share:.1f}",
            str(sum(book.dead for book in each.codebooks)),
        )
    _print_head(console, diagnosis)
    console.print(table)
    console.print("carried: entropy of the tokens on these rows, in bits, of those that they cost")
    console.print("/ref: FVU over the Gaussian reference at the same bits; raw %: of the summed raw MSE\n")
    console.print(raw_imbalance(diagnosis) + "\n")
    for each in _to_explain(diagnosis):
        _print_causes(console, each, diagnosis)


def show_category(console: Console, diagnosis: Diagnosis, category: CategoryDiagnosis) -> None:
    """Print one category: its sizes, codebooks, causes and features, the worst feature first."""
    families = ", ".join(f"{count} {family}" for family, count in category.families.items())
    _print_head(console, diagnosis)
    console.print(
        f"{category.name}: {len(category.features)} features ({families}), {category.bits_carried:.1f} of "
        f"{category.bits:.1f} bits carried, "
        f"{category.bits_per_feature:.2f} a feature\n"
        f"FVU {category.fvu:.4f}, Gaussian reference {category.reference_fvu:.4f}; raw MSE {category.mse_raw:.4g} = "
        f"variance {category.variance_raw:.4g} x {category.fvu_raw:.4g}"
    )
    books = table_of_figures("", "level", ("dim", "codes", "used", "dead", "perplexity"))
    for book in category.codebooks:
        figures = (book.dim, book.codes, book.used, book.dead)
        books.add_row(book.level, *map(str, figures), f"{book.perplexity:.1f}")
    console.print(books)
    _print_features(console, category)
    _print_causes(console, category, diagnosis)


def _print_features(console: Console, category: CategoryDiagnosis) -> None:
    figures = ("FVU", "error\n%", "std", "kur-\ntosis", "far\nout %", "im-\nputed", "clip-\nped")
    table = table_of_figures("", "feature", figures, stays=("FVU",))
    for each in category.features[:LISTED]:
        table.add_row(
            each.feature,
            f"{each.fvu:.3f}",
            f"{100 * each.error_share:.1f}",
            f"{each.std:.3g}",
            f"{each.kurtosis:.1f}",
            f"{100 * each.outliers:.1f}",
            str(each.imputed),
            str(each.clipped),
        )
    console.print(table)
    if len(category.features) > LISTED:
        console.print(f"the worst {LISTED} of {len(category.features)} features; --json lists all\n")


def _to_explain(diagnosis: Diagnosis) -> list[CategoryDiagnosis]:
    return [
        each for place, each in enumerate(diagnosis.categories) if place < EXPLAINED or each.name == diagnosis.raw.worst
    ]


def _print_head(console: Console, diagnosis: Diagnosis) -> None:
    console.print(
        f"{diagnosis.source}: {diagnosis.row_count} {diagnosis.rows} rows; FVU mean {diagnosis.fvu_mean:.4f}, "
        f"imbalance {diagnosis.imbalance:.2f}x"
    )
    if warning := changed_data(diagnosis):
        console.print(f"warning: {warning}")


def _print_causes(console: Console, category: CategoryDiagnosis, diagnosis: Diagnosis) -> None:
    console.print(f"{category.name}")
    for sentence in causes(category, diagnosis):
        console.print(Padding(sentence, (0, 0, 0, 2)))
