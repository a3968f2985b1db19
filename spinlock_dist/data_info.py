"""python -m spinlock_dist.data_info: what is in a dataset, and whether a training would take it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.command import command_parser
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.config_file import load_config
from spinlock_dist.errors import FAILURE, DataError, SpinlockError, run_command
from spinlock_dist.fitted_table import FittedTable, table_of_figures
from spinlock_dist.inputs import require_file

if TYPE_CHECKING:
    from rich.console import Console

    from spinlock_dist.data.summary import ColumnSummary, FamilySummary
    from spinlock_dist.prepare import PreparedData

EXAMPLES = """examples:
  python -m spinlock_dist.data_info operators.h5                     families, missing values, scales, grids, policies
  python -m spinlock_dist.data_info features.csv --columns           and every column
  python -m spinlock_dist.data_info features.csv --config trial.yaml as a training with this config would take it

Exits with 1 if a training would refuse it.
"""

BATCH_ROWS = 1 << 13
"""Rows in memory at a time, while the file is looked at; preparing it needs all of it, as training does."""
NAMED = 3
"""Columns that are named where something is said of many."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a training would make of a dataset."""

    rows: dict[str, int]
    """Of each part of the split."""
    columns: int
    """Those that are kept."""
    dropped: dict[str, int]
    """Columns that cleaning drops, by reason."""
    categories: dict[str, int]
    """Features of each category."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A dataset, and what a training would make of it."""

    source: str
    families: tuple[FamilySummary, ...]
    labels: dict[str, dict[str, int]]
    """Rows by what the dataset says of them beside their features: grid, evolution policy and the like."""
    refused: tuple[str, ...]
    """What a training would refuse it for."""
    taken: Taken | None
    """None if it would refuse it."""


def main(argv: list[str] | None = None) -> int:
    """Parse, look, try, print. Returns 1 if a training would refuse the dataset."""
    args = make_parser().parse_args(argv)
    config = (load_config(args.config) if args.config else TrialConfig()).prepare
    require_file(args.file, DataError)
    info = data_info(config.model_copy(update={"dataset": str(args.file)}))
    if args.json:
        print(json.dumps(as_json(info)))
    else:
        from spinlock_dist.shown import terminal_console

        _show(terminal_console(), info, args.columns)
    return FAILURE if info.refused else 0


def data_info(config: PrepareConfig) -> DataInfo:
    """Look at the dataset in `config` and prepare it as a training with that config would."""
    from spinlock_dist.data.load import load_batches, load_labels
    from spinlock_dist.data.summary import summarize
    from spinlock_dist.prepare import prepare

    refused: list[str] = []
    families: tuple[FamilySummary, ...] = ()
    labels: dict[str, dict[str, int]] = {}
    taken = None
    try:
        families = summarize(load_batches(config, BATCH_ROWS).tables)
        found = load_labels(config, families[0].shape[0])
        labels = {name: dict(Counter(values.tolist()).most_common()) for name, values in found.items()}
    except SpinlockError as error:
        refused.append(str(error))
    if not refused:
        try:
            taken = _taken(prepare(config))
        except SpinlockError as error:
            refused.append(str(error))
    return DataInfo(source=str(config.dataset), families=families, labels=labels, refused=tuple(refused), taken=taken)


def as_json(info: DataInfo) -> dict[str, Any]:
    """Everything, with every column."""
    return asdict(info)


def _taken(data: PreparedData) -> Taken:
    ledger = data.pipeline.cleaning.ledger
    return Taken(
        rows={name: len(data.split.part(name)) for name in ("train", "validation", "test")},
        columns=len(data.feature_names),
        dropped=dict(Counter(entry.dropped for entry in ledger if entry.dropped is not None)),
        categories={category.name: len(category) for category in data.categories},
    )


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "spinlock_dist.data_info", "Say what is in a dataset, and whether a training would take it.", EXAMPLES
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="HDF5, .parquet, .csv or .npz")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="trial config with the families and cleaning to use"
    )
    parser.add_argument("--columns", action="store_true", help="list every column")
    parser.add_argument("--json", action="store_true", help="print everything, every column too, as JSON")
    return parser


def _show(console: Console, info: DataInfo, every_column: bool) -> None:
    if info.families:
        console.print(_family_table(info))
        for family in info.families:
            for sentence in _remarks(family):
                console.print(f"{family.name}: {sentence}")
            if every_column:
                console.print(_column_table(family))
    for name, counts in info.labels.items():
        console.print(f"{name}: " + ", ".join(f"{label} {count}" for label, count in counts.items()))
    if info.taken is not None:
        console.print(_in_words(info.taken))
    for reason in info.refused:
        console.print(f"a training would refuse it: {reason}")


def _family_table(info: DataInfo) -> FittedTable:
    figures = ("rows", "steps", "columns", "constant", "missing", "least std", "most")
    table = table_of_figures(info.source, "family", figures)
    for family in info.families:
        rows, *steps, columns = family.shape
        scales = family.scales
        table.add_row(
            family.name,
            str(rows),
            str(steps[0]) if steps else "",
            str(columns),
            str(sum(column.constant for column in family.columns)),
            str(sum(column.missing for column in family.columns)),
            *((f"{scale:.2g}" for scale in scales) if scales else ("", "")),
        )
    return table


def _remarks(family: FamilySummary) -> list[str]:
    """Its columns that are constant, empty, or lack the most values."""
    constant = [column for column in family.columns if column.constant]
    lacking = sorted((column for column in family.columns if column.missing), key=lambda each: -each.missing)
    found = []
    if constant:
        found.append(f"constant: {_named(constant)}")
    if lacking:
        values = family.shape[0] * (family.shape[1] if len(family.shape) == 3 else 1)
        found.append(f"values missing: {_named(lacking)}; at most {lacking[0].missing} of {values} in a column")
    return found


def _named(columns: list[ColumnSummary]) -> str:
    more = f" and {len(columns) - NAMED} more" if len(columns) > NAMED else ""
    return ", ".join(column.name for column in columns[:NAMED]) + more


def _column_table(family: FamilySummary) -> FittedTable:
    table = table_of_figures(family.name, "column", ("missing", "mean", "std", "least", "most"))
    for each in family.columns:
        figures = (each.mean, each.std, each.low, each.high)
        table.add_row(each.name, str(each.missing), *("" if value is None else f"{value:.3g}" for value in figures))
    return table


def _in_words(taken: Taken) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in taken.rows.items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in taken.dropped.items())
    sizes = sorted(taken.categories.values())
    return (
        f"a training would take it: rows {parts}; {taken.columns} columns"
        f"{f' (dropped: {dropped})' if dropped else ''} in {len(sizes)} categories of {sizes[0]} to {sizes[-1]}"
    )


if __name__ == "__main__":
    run_command(main)
