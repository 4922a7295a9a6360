# SPDX-License-Identifier: Apache-2.0
"""The base of all charts: colors for light and dark pages, figures to PNG, and the choice of summaries."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["DARK", "LIGHT", "Panel", "Theme", "baseline_panels", "telling_panels"]
__all__ += ["data_colors", "draw_scale", "method_looks", "new_figure", "tidy", "to_png"]

RESOLUTION = 200  # of pictures, in dots per inch
MARKERS = "os^Dv"
LINES = 3  # protected data in a panel

Panel = tuple[str, list[Summary]]  # name, what it shows


@dataclass(frozen=True)
class Theme:
    """Colors of a page; those of the training data keep apart for color-blind readers (after Okabe and Ito).

    Args:
        background: color of the background.
        ink: color of text.
        muted: color of labels of axes.
        grid: color of grid lines.
        training: colors by role of the training data.
        methods: colors of protected data, in their order.
        cold: color where models learn nothing; dark letters can be read on it, as on ``warm``.
        middle: color where a score is half-way.
        warm: color where models learn as from the originals.
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
    {CLEAN: "#0072b2", PROTECTED: "#b84f00", RANDOM: "#66707a"},
    ("#b84f00", "#00795a", "#b5548a", "#8a6d00", "#5b3fa8"),
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
    for place, (name, method) in enumerate(protected.items()):
        number = methods.index(method) if len(methods) > 1 else place
        colors[name] = theme.methods[number % len(theme.methods)]
    return colors


def method_looks(lines: Sequence[FrontierLine], theme: Theme) -> dict[str, tuple[str, str]]:
    """Color and marker of each method; random noise is gray everywhere."""
    real = distinct(line.method for line in lines if line.training == PROTECTED)
    looks = {line.method: (theme.training[line.training], "X") for line in lines}
    return looks | {
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


def draw_scale(axes: Axes, colors: Colormap, names: Sequence[str], ink: str, size: float) -> None:
    """All colors of a map from left to right, with names below its ends and its middle."""
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=colors, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks((0, 0.5, 1), names, color=ink, fontsize=size)
    axes.set_yticks(())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def baseline_panels(summaries: Sequence[Summary], limit: int) -> list[Panel]:
    """A panel for each victim and recipe without countermeasure, ``limit`` at most; the first ones."""
    return [panel for key, panel in _groups(summaries).items() if key[2] == NO_COUNTERMEASURE][:limit]


def telling_panels(summaries: Sequence[Summary], limit: int) -> list[Panel]:
    """Half of ``limit`` panels for victims trained plainly, others for those where most of the score came back."""
    controlled = ControlledSummaries(summaries)
    groups = {key: panel for key, panel in _groups(summaries).items() if any(any(s.curves) for s in panel[1])}
    basic = [key for key in groups if key[1:] == (controlled.recipe, NO_COUNTERMEASURE)]

    def returned(key: tuple[str, str, str]) -> float:
        fractions = [controlled.fraction(s) for s in groups[key][1] if s.training == PROTECTED]
        return max((fraction for fraction in fractions if math.isfinite(fraction)), default=-1.0)

    others = sorted((key for key in groups if key not in basic), key=returned, reverse=True)
    kept = basic[: max(limit - len(others), limit // 2)]
    return [groups[key] for key in [*kept, *others[: limit - len(kept)]]]


def _groups(summaries: Sequence[Summary]) -> dict[tuple[str, str, str], Panel]:
    """The summaries to show of one victim, recipe and countermeasure: clean, a few protected ones, one random noise."""
    groups = grouped((s for s in summaries if s.done), lambda s: (s.victim, s.recipe, s.countermeasure))
    recipes = len({s.recipe for s in summaries}) > 1
    panels = {}
    for (victim, recipe, countermeasure), group in groups.items():
        parts = [victim, *[recipe] * recipes, *[countermeasure] * (countermeasure != NO_COUNTERMEASURE)]
        protected = _telling([s for s in group if s.training == PROTECTED])
        strength = max((s.epsilon or 0.0 for s in protected), default=0.0)
        random = sorted((s for s in group if s.training == RANDOM), key=lambda s: abs((s.epsilon or 0.0) - strength))
        shown = [*[s for s in group if s.training == CLEAN][:1], *protected, *random[:1]]
        panels[victim, recipe, countermeasure] = (", ".join(parts), shown)
    return panels


def _telling(summaries: Sequence[Summary]) -> list[Summary]:
    """A few of the protected data: of each method that with the strongest noise, then others."""
    strongest = {s.method: s for s in sorted(summaries, key=lambda s: s.epsilon or 0.0)}
    kept = list(strongest.values())[:LINES]
    kept += [s for s in summaries if s not in kept][: LINES - len(kept)]
    return [s for s in summaries if s in kept]
