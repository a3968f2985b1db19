"""Each figure of the finalists as a ratio to the baseline's, with its interval."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, blank, log_axis


def draw(study: StudyRecord) -> go.Figure | None:
    findings = [each for each in (study.verdict or {}).get("findings", []) if each["effects"]]
    if not findings:
        return None
    names = [name for name in findings[0]["effects"] if all(name in each["effects"] for each in findings)]
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


FIGURE = Figure(
    title="How much better, and how certain",
    caption="Left of the line is lower than the uniform baseline; an interval that crosses it shows no difference.",
    section="outcome",
    draw=draw,
)
