"""Figures of what the best trial does better or worse than uniform ratios."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from results.analysis.raw_error import split_raw
from results.records.study_record import StudyRecord
from results.report.plots.style import (
    COLOURS,
    best_and_baseline,
    best_name,
    blank,
    log_axis,
)


def effects(study: StudyRecord) -> go.Figure | None:
    """Draw each figure of the finalists as a ratio to the baseline's, with its interval."""
    findings = [each for each in (study.verdict or {}).get("findings", []) if each["effects"]]
    if not findings:
        return None
    names = list(findings[0]["effects"])
    figure = blank(height=120 + 34 * len(names) * min(len(findings), 3))
    for place, finding in enumerate(findings[:6]):
        found = [finding["effects"][name] for name in names]
        ratios = np.array([each["ratio"] for each in found])
        reach = {
            "array": np.array([each["high"] for each in found]) - ratios,
            "arrayminus": ratios - np.array([each["low"] for each in found]),
        }
        figure.add_scatter(
            x=ratios,
            y=names,
            mode="markers",
            name=finding["arm"].replace("-", " "),
            error_x={"type": "data", "symmetric": False, **reach},
            marker={"size": 9, "symbol": place},
            **({"marker_color": COLOURS["best"]} if finding["arm"] == (study.verdict or {}).get("exported") else {}),
        )
    figure.add_vline(x=1, line={"dash": "dash", "color": COLOURS["baseline"]})
    reaches = [each["effects"][name][end] for each in findings for name in names for end in ("low", "high")]
    figure.update_xaxes(title={"text": "finalist / uniform baseline, test rows"}, **log_axis(reaches))
    figure.update_yaxes(autorange="reversed")
    return figure


def categories(study: StudyRecord) -> go.Figure | None:
    """Draw the FVU of every category, best trial against baseline, as a dumbbell."""
    pair = best_and_baseline(study)
    if pair is None:
        return None
    ours, base = pair
    names = sorted(base.fvu, key=lambda name: base.fvu[name])
    figure = blank(height=140 + 18 * len(names))
    for name in names:
        figure.add_shape(
            type="line",
            x0=base.fvu[name],
            x1=ours.fvu[name],
            y0=name,
            y1=name,
            line={"color": COLOURS["stopped"]},
            layer="below",
        )
    for label, metrics, colour, symbol in (
        ("uniform baseline", base, "baseline", "circle-open"),
        (best_name(study), ours, "best", "circle"),
    ):
        figure.add_scatter(
            x=[metrics.fvu[name] for name in names],
            y=names,
            mode="markers",
            name=label,
            marker={
                "color": COLOURS[colour],
                "symbol": symbol,
                "size": 9,
                "line": {"width": 2, "color": COLOURS[colour]},
            },
        )
    figure.update_xaxes(
        title={"text": "FVU (0 perfect, 1 useless), validation rows"},
        **log_axis([*ours.fvu.values(), *base.fvu.values()]),
    )
    return figure


def raw_decomposition(study: StudyRecord) -> go.Figure | None:
    """Draw log10 of the raw imbalance as the sum of scale and FVU, of baseline and best trial."""
    if study.baseline is None or study.baseline.metrics is None:
        return None
    arms = {"uniform baseline": study.baseline.metrics}
    if (pair := best_and_baseline(study)) is not None:
        arms[best_name(study)] = pair[0]
    splits = {name: split_raw(metrics) for name, metrics in arms.items()}
    figure = blank(height=220, barmode="relative")
    parts = (("scale of the features", "baseline", "scale"), ("FVU, normalized error", "best", "fvu"))
    for label, colour, part in parts:
        figure.add_bar(
            y=list(splits),
            x=[math.log10(getattr(split, part)) for split in splits.values()],
            text=[f"{getattr(split, part):.3g}x" for split in splits.values()],
            name=label,
            orientation="h",
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "#ffffff"},
            marker={"color": COLOURS[colour]},
        )
    figure.update_xaxes(title={"text": "log10 of the raw imbalance: parts add up"})
    return figure
