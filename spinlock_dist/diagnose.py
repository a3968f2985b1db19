"""python -m spinlock_dist.diagnose: explain a trained tokenizer category by category, feature by feature."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from spinlock_dist.command import add_overwrite, command_parser
from spinlock_dist.errors import ConfigError, did_you_mean, run_command
from spinlock_dist.outputs import check_output, html_page

if TYPE_CHECKING:
    import numpy as np

    from spinlock_dist.data.table import FeatureTable
    from spinlock_dist.diagnosis.record import Diagnosis
    from spinlock_dist.split import Split
    from spinlock_dist.tokenizer import Tokenizer

EXAMPLES = """examples:
  python -m spinlock_dist.diagnose runs/x/best/checkpoint                          which categories are worst, and why
  python -m spinlock_dist.diagnose runs/x/best/checkpoint --category cluster_2     one of them, feature by feature
  python -m spinlock_dist.diagnose ckpt --dataset other.h5 --html diagnosis.html   on other data, as a page
  python -m spinlock_dist.diagnose runs/x/best/checkpoint --figures figures/       codebooks and latent space, drawn
  python -m spinlock_dist.diagnose theirs.trained/best_model.pt                    a model that Spinlock trained
"""

DIAGNOSIS_PAGE = html_page("spinlock_dist.diagnose", "the page of a diagnosis", "<title>Diagnosis of a tokenizer<")


def main(argv: list[str] | None = None) -> int:
    """Parse, load, compute, print."""
    args = make_parser().parse_args(argv)
    if args.html:
        check_output(args.html, DIAGNOSIS_PAGE, "--html", args.overwrite)
    # Imported only now, so that --help answers at once.
    from spinlock_dist.diagnosis.measure import diagnose
    from spinlock_dist.diagnosis.pictures import FIGURE_FOLDER, draw_figures, write_figures

    theirs = args.checkpoint.is_file()
    if args.figures and theirs:
        raise ConfigError("--figures: drawn of checkpoints of this program alone; leave it out")
    if args.figures:
        check_output(args.figures, FIGURE_FOLDER, "--figures")
        _require_apart(args.html, args.figures)
    tokenizer, table, labels, parts, note = _spinlocks(args) if theirs else _ours(args)
    if args.category is not None:
        _require(args.category, [category.name for category in tokenizer.categories])
    diagnosis = diagnose(tokenizer, table, None if args.dataset else "validation", parts)
    drawn = draw_figures(tokenizer, table, diagnosis, labels) if (args.html or args.figures) and not theirs else []
    if args.json:
        print(json.dumps(as_json(diagnosis, args.category)))
    else:
        _show(diagnosis, args.category)
        if note:
            print(note)
    # Only now: what was found is not lost if it cannot be written.
    if args.figures:
        write_figures(args.figures, drawn)
    if args.html:
        from spinlock_dist.diagnosis.render import write_page

        write_page(args.html, diagnosis, drawn)
    if args.json:
        return 0
    for what, path in (("page", args.html), ("figures", args.figures)):
        if path:
            print(f"{what}: {path}")
    return 0


def _require_apart(page: Path | None, figures: Path) -> None:
    """Raise `ConfigError` if one of two outputs lies where the other is to be."""
    if page is not None:
        one, other = page.resolve(), figures.resolve()
        if one == other or other in one.parents or one in other.parents:
            raise ConfigError(f"--html {page} and --figures {figures}: one lies in the other; name places apart")


Loaded = tuple["Tokenizer", "FeatureTable", "dict[str, np.ndarray]", "Split | None", str]
"""What is diagnosed, its rows and what is known of them, the rows of each part unless its config says, and a note."""


def _ours(args: argparse.Namespace) -> Loaded:
    from spinlock_dist.checkpoint import load_checkpoint
    from spinlock_dist.data.load import chosen_dataset, load_labels, load_table

    tokenizer = load_checkpoint(args.checkpoint, device=args.device)
    source = chosen_dataset(tokenizer.config.prepare, args.dataset)
    table = load_table(source)
    return tokenizer, table, load_labels(source, len(table)), None, ""


def _spinlocks(args: argparse.Namespace) -> Loaded:
    from spinlock_dist.interop.spinlock_checkpoint import read_spinlock_checkpoint
    from spinlock_dist.interop.spinlock_model import NOT_CONVERTED
    from spinlock_dist.interop.spinlock_tokenizer import as_tokenizer, its_split, its_table

    theirs = read_spinlock_checkpoint(args.checkpoint)
    table = its_table(theirs, args.dataset)
    lost = theirs.width - sum(map(len, theirs.columns.values()))
    note = f"a model of Spinlock after {theirs.epoch} epochs; {NOT_CONVERTED}"
    note += f"; {lost} of its {theirs.width} columns are in no category and not scored" if lost else ""
    return as_tokenizer(theirs, table, args.device), table, {}, its_split(theirs, len(table)), note


def as_json(diagnosis: Diagnosis, category: str | None = None) -> dict[str, object]:
    """Everything in a diagnosis, with the causes of each category; of one category alone if it is named."""
    from spinlock_dist.diagnosis.causes import causes

    chosen = [each for each in diagnosis.categories if category in (None, each.name)]
    return asdict(diagnosis) | {"categories": [asdict(each) | {"causes": causes(each, diagnosis)} for each in chosen]}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "spinlock_dist.diagnose", "Explain a trained tokenizer: which categories it rebuilds worst, and why.", EXAMPLES
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="folder that train or a study wrote, or best_model.pt of Spinlock",
    )
    parser.add_argument(
        "--dataset",
        metavar="FILE",
        help="score all rows of another file with the same columns (default: the validation rows it was trained with)",
    )
    parser.add_argument("--category", metavar="NAME", help="show one category, feature by feature")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print every number as JSON and nothing else")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page that needs nothing but a browser")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="also write its figures here, as .svg files")
    add_overwrite(parser)
    return parser


def _require(name: str, known: list[str]) -> None:
    if name not in known:
        raise ConfigError(f"--category {name}: no such category{did_you_mean(name, known)}")


def _show(diagnosis: Diagnosis, name: str | None) -> None:
    from spinlock_dist.diagnosis.terminal import show_category, show_overview
    from spinlock_dist.shown import terminal_console

    console = terminal_console()
    if name is None:
        show_overview(console, diagnosis)
    else:
        show_category(console, diagnosis, next(each for each in diagnosis.categories if each.name == name))


if __name__ == "__main__":
    run_command(main)
