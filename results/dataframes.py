"""A study as tables for a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from results.analysis.tables import category_table, curve_table, trial_table
from results.records.study_folder import open_study
from results.records.study_record import StudyRecord, read_study


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
        """A row a trial of any phase, as in trials.parquet; columns: `results.analysis.tables.trial_table`."""
        return trial_table(self.record.records)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row a report, as in curves.parquet; columns: `results.analysis.tables.curve_table`."""
        return curve_table(self.record.records)

    @cached_property
    def categories(self) -> pd.DataFrame:
        """A row a trial and category, with FVU, raw error, bits and sizes: `results.analysis.tables.category_table`."""
        return category_table(self.record.records, self.record.features, self.record.scales)

    @cached_property
    def figures(self) -> dict[str, go.Figure]:
        """The figures of the report that there is data for, by the names of `results.report.figures.FIGURES`."""
        from results.report.figures import figures

        return figures(self.record)


def load_study(folder: Path) -> LoadedStudy:
    """The study in `folder`; raises as `results.load` does."""
    whole = folder.resolve()  # `.` has no name, and a study's is that of its folder
    return LoadedStudy(read_study(open_study(whole.parent, whole.name)))
