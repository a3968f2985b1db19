"""The figures of a diagnosis: what they show, computed once, and where they are written.

Legend: N rows, D cleaned features, L levels, Q codebooks that are switched on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinlock_dist.atomic_files import replacing_folder
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.diagnosis.figures import FIGURES
from spinlock_dist.diagnosis.figures.figure import Book, Figure, Panel, PictureData, PicturedCategory
from spinlock_dist.diagnosis.record import Diagnosis
from spinlock_dist.model.hierarchical_vqvae import stack_tokens
from spinlock_dist.outputs import OutputKind, file_head, saying_why
from spinlock_dist.split import split_rows
from spinlock_dist.tokenizer import Tokenizer

MOST_ROWS = 8000
"""Rows that are looked at, the first of those scored: more would change no picture."""
STYLE = Path(__file__).parent / "page" / "figures.css"
MARK = "<!-- spinlock_dist.diagnose -->"
NAME_BYTES = 200
"""Of the name of a drawing, at most; with an ending, and as a draft, a file's may have 255."""


@dataclass(frozen=True)
class Drawn:
    """A figure and its drawings."""

    name: str
    figure: Figure
    panels: list[Panel]


def draw_figures(
    tokenizer: Tokenizer, table: FeatureTable, diagnosis: Diagnosis, labels: Mapping[str, np.ndarray]
) -> list[Drawn]:
    """Every figure that the data has something for, of the rows that `diagnosis` has scored.

    `labels` say something of all rows of `table`: text `[N]` by name.
    """
    data = picture_data(tokenizer, table, diagnosis, labels)
    drawn = [Drawn(name, FIGURES[name], FIGURES[name].draw(data)) for name in FIGURES]
    return [each for each in drawn if each.panels]


def write_figures(folder: Path, drawn: list[Drawn]) -> None:
    """Write every drawing as an .svg of its own, in colours that follow the viewer's, light or dark.

    Raises `SpinlockError` if the folder cannot be written.
    """
    # A page brings its own background; alone, light lines would stand on white.
    style = f"<style>{STYLE.read_text(encoding='utf-8')}svg {{ background: var(--paper); }}</style>"
    with saying_why(folder, "--figures"), replacing_folder(folder) as draft:
        panels = [(each.name, panel) for each in drawn for panel in each.panels]
        names = file_names(["-".join(filter(None, (figure, panel.name))) for figure, panel in panels])
        for name, (_, panel) in zip(names, panels, strict=True):
            head, inside = panel.svg.split(">", 1)
            (draft / f"{name}.svg").write_text(f"{head}>{MARK}{style}{inside}\n", encoding="utf-8")


def file_names(names: Sequence[str]) -> list[str]:
    """Names of files for names of anything: nothing in them leads elsewhere, none is too long, no two are the same.

    File systems may take capital and small letters for the same.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.,()\[\]=+-]", "_", name).encode()[:NAME_BYTES].decode(errors="ignore")
        times = (f"-{count}" if count > 1 else "" for count in itertools.count(1))
        found.append(next(f"{plain}{end}" for end in times if f"{plain}{end}".casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def _is_ours(folder: Path) -> bool:
    return all(file.is_file() and file.suffix == ".svg" and MARK in file_head(file) for file in folder.iterdir())


FIGURE_FOLDER = OutputKind(name="the figures of a diagnosis", is_ours=_is_ours, is_folder=True)
"""What `spinlock_dist.diagnose --figures` writes."""


def picture_data(
    tokenizer: Tokenizer, table: FeatureTable, diagnosis: Diagnosis, labels: Mapping[str, np.ndarray]
) -> PictureData:
    """What figures show of the rows that `diagnosis` has scored; see `draw_figures`."""
    values_ND = tokenizer.pipeline.transform(table)
    fitted = scored = np.arange(len(values_ND))
    if diagnosis.rows != "all":
        parts = split_rows(len(values_ND), tokenizer.config.prepare.split)
        fitted, scored = parts.train, parts.part(diagnosis.rows)
    scored = scored[:MOST_ROWS]
    partial, tokens = zip(*_reconstruct(tokenizer, values_ND[scored]), strict=True)
    order = [category.name for category in diagnosis.categories]
    given = {category.name: category for category in tokenizer.categories}
    place = {index: order.index(category.name) for index, category in enumerate(tokenizer.categories)}
    books = sorted(tokenizer.plan.codebooks(), key=lambda book: (place[book[0][0]], book[0][1:]))
    columns = tuple(np.array([at for at, _, _ in books]).T)
    return PictureData(
        categories=tuple(
            PicturedCategory(each.name, given[each.name].columns, next(iter(each.families)))
            for each in diagnosis.categories
        ),
        books=tuple(Book(place[at[0]], at[1], name, codes) for at, name, codes in books),
        target_ND=values_ND[scored],
        partial_LND=np.concatenate(partial, axis=1),
        mean_D=values_ND[fitted].mean(axis=0, dtype=np.float64),
        tokens_NQ=np.concatenate(tokens)[(slice(None), *columns)],
        labels={name: texts[scored] for name, texts in labels.items()},
    )


def _reconstruct(tokenizer: Tokenizer, values_ND: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the levels up to each rebuild, `[L, B, D]` normalized, and the tokens `[B, C, L, S]`, chunk by chunk."""
    model = tokenizer.model
    for results in tokenizer.reconstruct(values_ND):
        coarser = [
            model.join([result.partial_MGBF[level] for result in results])
            for level in range(len(results[0].partial_MGBF) - 1)
        ]
        levels = [*coarser, model.join([result.output_MGBF for result in results])]
        tokens = stack_tokens(model.layout, [[level.tokens_MGBS for level in result.levels] for result in results])
        yield np.stack([model.layout.unpack(each[0]).cpu().numpy() for each in levels]), tokens
