# SPDX-License-Identifier: Apache-2.0
"""What all pictures of a report share: colors for light and dark pages, names in plain words, figures to PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.matrix import distinct
from monai_unlearnable.report.page import RESOLUTION
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary

__all__ = ["Theme", "LIGHT", "DARK", "data_colors", "method_looks", "new_figure", "to_png", "tidy"]

MARKERS = "os^Dv"


@dataclass(frozen=True)
class Theme:
    """Colors of a page; those of the training data keep apart for color-blind readers (after Okabe and Ito).

    Args:
        background: of pictures.
        ink: of text.
        muted: of labels of axes.
        grid: of grid lines.
        training: by role of the training data.
        methods: of protected data, in their order.
        cold: of cells where models learn nothing; dark letters can be read on it, as on ``warm``.
        middle: of cells where a score is half-way.
        warm: of cells where models learn as from the originals.
    """

    background: str
    ink: str
    muted: str
    grid: str
    training: dict[str, str]
    methods: tuple[str, ...]
    cold: str
    middle: str
    warm: str


LIGHT = Theme(
    "#ffffff",
    "#1c2128",
    "#59636e",
    "#e4e8ec",
    {CLEAN: "#0072b2", PROTECTED: "#d55e00", RANDOM: "#76808a"},
    ("#d55e00", "#00795a", "#b5548a", "#8a6d00", "#5b3fa8"),
    "#e08a4a",
    "#f3f1ec",
    "#4a9bcb",
)
DARK = Theme(
    "#161b22",
    "#e6edf3",
    "#9aa4af",
    "#2b323b",
    {CLEAN: "#56b4e9", PROTECTED: "#ff8c42", RANDOM: "#9aa4af"},
    ("#ff8c42", "#3ecf9f", "#ec9cc9", "#e3c14a", "#b49cff"),
    "#ff8c42",
    "#2b2f36",
    "#56b4e9",
)


def data_colors(summaries: Sequence[Summary], theme: Theme) -> dict[str, str]:
    """A color for each name of training data: those of the roles, methods apart, or the data of the only method."""
    colors = {s.data: theme.training[s.training] for s in summaries}
    protected = {s.data: s.method for s in summaries if s.training == PROTECTED}
    methods = distinct(protected.values())
    places = [methods.index(method) if len(methods) > 1 else place for place, method in enumerate(protected.values())]
    return colors | {
        name: theme.methods[place % len(theme.methods)] for name, place in zip(protected, places, strict=True)
    }


def method_looks(lines: Sequence[FrontierLine], theme: Theme) -> dict[str, tuple[str, str]]:
    """Color and marker of each method; random noise is gray everywhere."""
    real = distinct(line.method for line in lines if line.training == PROTECTED)
    num_validations = {line.method: (theme.training[line.training], "X") for line in lines}
    return num_validations | {
        name: (theme.methods[place % len(theme.methods)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(real)
    }


def new_figure(width: float, height: float, background: str) -> Figure:
    """An empty figure, sizes in inches; it belongs to no global state."""
    return Figure(figsize=(width, height), facecolor=background)


def to_png(figure: Figure) -> bytes:
    """The bytes of a PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return stream.getvalue()


def tidy(axes: Axes, theme: Theme, grid: Any = "y") -> None:
    """Quiet axes: no frame but a baseline, faint grid lines behind the data, no ticks."""
    axes.set_facecolor(theme.background)
    for side, spine in axes.spines.items():
        spine.set_visible(side == ("bottom" if grid == "y" else "left"))
        spine.set_color(theme.muted)
    axes.grid(axis=grid, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=theme.muted, labelsize=9.5)
