"""Each figure of the finalists as a ratio to the baseline's, with its interval."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, blank, ratio_axis
from results.verdict.sentences import NAMES, spoken

MOST_FINALISTS = 6


def draw(study: StudyRecord) -> go.Figure | None:
    findings = [each for each in (study.verdict or {}).get("findings", []) if each["effects"]][:MOST_FINALISTS]
    if not findings:
        return None
    names = [name for name in findings[0]["effects"] if all(name in each["effects"] for each in findings)]
    figure = blank(height=120 + len(names) * (24 + 18 * len(findings)))
    for place, finding in enumerate(findings):
        colour = COLOURS["best" if finding["arm"] == (study.verdict or {}).get("exported") else "stopped"]
        trace = _trace(finding, names, (place + 0.5) / len(findings) - 0.5)
        figure.add_scatter(**trace, marker={"size": 9, "symbol": place, "color": colour})
    figure.add_vline(x=1, line={"dash": "dash", "color": COLOURS["baseline"]})
    reaches = [each["effects"][name][end] for each in findings for name in names for end in ("low", "high")]
    figure.update_xaxes(title={"text": "finalist / uniform baseline, test rows"}, **ratio_axis(reaches))
    labels = [NAMES.get(name, name) for name in names]
    rows = {"tickvals": list(range(len(names))), "ticktext": labels, "range": [len(names) - 0.5, -0.5]}
    figure.update_yaxes(**rows, showgrid=False, zeroline=False)
    return figure


def _trace(finding: dict[str, Any], names: list[str], offset: float) -> dict[str, Any]:
    """The intervals of a finalist: in each row they lie beside those of the others."""
    found = [finding["effects"][name] for name in names]
    reach = {
        "array": [each["high"] - each["ratio"] for each in found],
        "arrayminus": [each["ratio"] - each["low"] for each in found],
    }
    return {
        "x": [each["ratio"] for each in found],
        "y": [row + 0.7 * offset for row in range(len(names))],
        "mode": "markers",
        "name": spoken(finding["arm"]),
        "error_x": {"type": "data", "symmetric": False, **reach},
        "text": [f"{each['ratio']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in found],
        "hoverinfo": "text+name",
    }


FIGURE = Figure(
    title="How much better, and how certain",
    caption="Left of the line is lower than the uniform baseline; an interval that crosses it shows no difference.",
    section="outcome",
    draw=draw,
)
