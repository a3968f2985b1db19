"""Drawings as SVG text. Colours are classes of `figures.css`, which knows light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from spinlock_dist.shown import plain

TONES = 12
"""Steps of opacity that a heat map has."""
ROOM = np.array([70.0, 13.0])
"""What a name takes, across and down."""
MOST_LETTERS = 20
"""Of a name among the dots."""
HUES = 8
"""Colours that tell groups apart."""


class Canvas:
    """An SVG that is being drawn; lengths are in its own units, a pixel at full size."""

    def __init__(self, width: float, height: float, label: str):
        self.width, self.height, self.label = width, height, label
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> None:
        """Write `text`, its baseline at y."""
        classes = f' class="{kind}"' if kind else ""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}>{_shown(text)}</text>')

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str = "axis") -> None:
        """Draw a line."""
        (x1, y1), (x2, y2) = start, end
        self._parts.append(f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def box(self, corner: tuple[float, float], size: tuple[float, float], kind: str) -> None:
        """Draw a rectangle."""
        x, y, width, height = *corner, *size
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"/>'
        )

    def dots(self, places: np.ndarray, hue: int | None, size: float = 4) -> None:
        """Draw dots `[N, 2]` in one of the colours, in grey if None."""
        marks = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places.tolist())
        if marks:
            self._parts.append(
                f'<path class="dots h{"-" if hue is None else hue % HUES}" stroke-width="{size:g}" d="{marks}"/>'
            )

    def cells(self, cells: Iterable[tuple[float, float, float, float, float]]) -> None:
        """Draw rectangles `(x, y, width, height, value)`: the darker the larger |value| up to 1, in another colour
        below 0."""
        by_tone: dict[tuple[str, int], list[str]] = {}
        for x, y, width, height, value in cells:
            tone = round(min(abs(value), 1.0) * TONES) if np.isfinite(value) else 0
            if tone:
                shape = f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z"
                by_tone.setdefault(("below" if value < 0 else "above", tone), []).append(shape)
        for (kind, tone), shapes in sorted(by_tone.items()):
            self._parts.append(f'<path class="{kind}" fill-opacity="{tone / TONES:.2f}" d="{"".join(shapes)}"/>')

    def svg(self) -> str:
        """The element, without a style of its own."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{_shown(self.label)}">{"".join(self._parts)}</svg>'
        )


def square(canvas: Canvas, values: np.ndarray, corner: tuple[float, float], side: float) -> None:
    """Draw a square matrix as a heat map."""
    step = side / max(len(values), 1)
    canvas.box(corner, (side, side), "frame")
    canvas.cells(
        (corner[0] + column * step, corner[1] + row * step, step, step, float(value))
        for (row, column), value in np.ndenumerate(values)
    )


def scatter(label: str, places: np.ndarray, groups: Sequence[tuple[str, np.ndarray, int | None]]) -> str:
    """Dots `[N, 2]` from -1 to 1 in colours by group, whose names stand at their centres and in a legend.

    A group is a name, which rows are of it `[N]`, and its colour, None for grey.
    """
    side, rows = 300.0, -(-len(groups) // 2)
    canvas = Canvas(side, side + 18 * rows + 8, label)
    canvas.box((0.5, 0.5), (side - 1, side - 1), "frame")
    at = np.stack([(places[:, 0] + 1.06) / 2.12, (1.06 - places[:, 1]) / 2.12], axis=1) * side
    for _, members, hue in sorted(groups, key=lambda group: group[2] is not None):
        canvas.dots(at[members], hue, 3 if len(at) > 600 else 4.5)
    written: list[np.ndarray] = []
    for place, (name, members, hue) in enumerate(groups):
        x, y = (place % 2) * side / 2, side + 18 * (place // 2 + 1)
        canvas.dots(np.array([[x + 6, y - 4]]), hue, 8)
        canvas.text(x + 15, y, shortened(name, 22))
        if hue is None or not members.any():
            continue
        centre = np.median(at[members], axis=0)
        if all((np.abs(centre - other) > ROOM).any() for other in written):  # the legend has them all
            half = 3.6 * min(len(name), MOST_LETTERS)
            canvas.text(
                float(np.clip(centre[0], half, side - half)),
                float(centre[1]),
                shortened(name, MOST_LETTERS),
                "middle",
                "halo",
            )
            written.append(centre)
    return canvas.svg()


def shortened(name: str, most: int) -> str:
    """A name cut to what there is room for."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _shown(text: str) -> str:
    return escape(plain(text))
