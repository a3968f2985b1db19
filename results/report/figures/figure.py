"""What a figure of the report is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from results.records.study_record import StudyRecord


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the report: what it shows, what to look for, where it stands and how it is drawn."""

    title: str
    caption: str
    section: str
    """Where it stands, by the names of `results.report.sections.SECTIONS`."""
    draw: Callable[[StudyRecord], go.Figure | None]
    """None where there is nothing to draw. Raises `SpinlockError` where what it needs cannot be read."""
    wide: bool = False
    """Whether it needs more width than a phone has; there it can be scrolled."""
