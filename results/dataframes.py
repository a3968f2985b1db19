"""A study as tables for a notebook."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from results.analysis.tables import category_table, curve_table, trial_table
from results.analysis.trial_summary import outcomes_in_words
from results.records.study_folder import open_study
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord
from results.verdict.sentences import spoken
from spinlock_dist.shown import plain

STORED = ("record", "codebooks", "story")
"""Columns of trials.parquet that hold JSON text for the study itself: `LoadedStudy.record` has their content."""
FIGURES = {"imbalance": "imbalance", "fvu_worst": "worst FVU", "fvu_mean": "mean FVU"}


@dataclass(frozen=True)
class LoadedStudy:
    """A study as it was when it was read. Units are the same everywhere.

    FVU: fraction of variance unexplained, 0 perfect, 1 = the training mean. imbalance: largest FVU of a category / the
    smallest. bits: per sample. seconds: wall time of one training. mse_raw: squared raw units; scale: the mean variance
    of a category's features, in the same.
    Metrics are on the validation rows unless their column begins with `test.` or a column `split` says otherwise.
    """

    record: StudyRecord
    """The same as objects: records, verdict, description, prepared data, problems."""

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial of any phase; columns: `results.analysis.tables.trial_table`.

        Settings are numbers and words as they were searched, missing where a trial does not have them. Of
        trials.parquet the columns in `STORED` are left out.
        """
        table = trial_table(self.record.records)
        table = table.drop(columns=[name for name in STORED if name in table])
        for name in [name for name in table if str(name).startswith("param.")]:
            values = [json.loads(value) if isinstance(value, str) else None for value in table[name]]
            table[name] = pd.Series(values, index=table.index).infer_objects()
        return table

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row a report, as in curves.parquet; columns: `results.analysis.tables.curve_table`.

        In that of several `folds` the figures of all of them come together, after the trainings.
        """
        table = curve_table(self.record.records)
        folds = table["folds"].fillna(1) if "folds" in table else 1
        return table.assign(folds=folds).astype({"folds": int})

    @cached_property
    def categories(self) -> pd.DataFrame:
        """A row a trial and category, with FVU, raw error, bits and sizes: `results.analysis.tables.category_table`."""
        return category_table(self.record.records, self.record.features, self.record.scales)

    @cached_property
    def figures(self) -> dict[str, go.Figure]:
        """The figures of the report that there is data for, by the names of `results.report.figures.FIGURES`."""
        from results.report.figures import figures

        return figures(self.record)

    def __repr__(self) -> str:
        return plain("\n".join([*self._lines(), *(f"{who}: {told}" for who, told in self._scores().items()), LOOK]))

    def _repr_html_(self) -> str:
        """The same for a notebook, with the scores as a table."""

        def cells(texts: list[str], tag: str) -> str:
            return "".join(f"<{tag}>{escape(plain(text))}</{tag}>" for text in texts)

        heads = cells(["", *FIGURES.values(), "utilization"], "th")
        rows = [cells([who, *told.values()], "td") for who, told in self._figures().items()]
        table = f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if rows else ""
        texts = "".join(f"<p>{escape(plain(line))}</p>" for line in self._lines())
        return f"{texts}{table}<p>{escape(LOOK)}</p>"

    def _lines(self) -> list[str]:
        """What it is, how it went and what was found."""
        study = self.record
        went = f". {outcomes_in_words(study.search)}" if study.search else ""
        lines = [f"study {study.name}, {study.state}{went}"]
        if conclusion := (study.verdict or {}).get("conclusion"):
            lines.append(str(conclusion).split(". ")[0].rstrip(".") + ".")
        if study.problems:
            lines.append(f"{len(study.problems)} of its files are damaged or missing: see .record.problems")
        return lines

    def _figures(self) -> dict[str, dict[str, str]]:
        """The scores of the baseline and of the best trial, in words, by figure."""
        best, baseline = self.record.best, self.record.baseline
        shown: dict[str, TrialRecord | None] = {"uniform baseline": baseline}
        if best is not None:
            shown[f"{spoken(best.arm)}, {self.record.settings.in_words(best)}"] = best
        return {
            who: {each: record.metrics.in_words(each) for each in FIGURES}
            | {"utilization": f"{record.metrics.utilization:.0%}"}
            for who, record in shown.items()
            if record is not None and record.metrics is not None
        }

    def _scores(self) -> dict[str, str]:
        return {
            who: ", ".join(f"{FIGURES[each]} {told[each]}" for each in FIGURES) for who, told in self._figures().items()
        }


LOOK = "Look at .trials, .curves and .categories (tables), .figures (of the report) and .record (objects)."


def load_study(folder: Path) -> LoadedStudy:
    """The study in `folder`; raises as `results.load` does."""
    whole = folder.resolve()  # `.` has no name, and a study's is that of its folder
    return LoadedStudy(read_study(open_study(whole.parent, whole.name)))
