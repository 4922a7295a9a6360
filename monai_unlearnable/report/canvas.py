# SPDX-License-Identifier: Apache-2.0
"""What all pictures of a report share: colors for light and dark pages, names in plain words, figures to PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM

__all__ = ["Theme", "LIGHT", "DARK", "new_figure", "to_png", "tidy"]

RESOLUTION = 200  # dots per inch


@dataclass(frozen=True)
class Theme:
    """Colors of a page; those of the training data keep apart for color-blind readers (after Okabe and Ito)."""

    background: str
    ink: str
    muted: str
    grid: str
    training: dict[str, str]


LIGHT = Theme("#ffffff", "#1c2128", "#59636e", "#e4e8ec", {CLEAN: "#0072b2", PROTECTED: "#d55e00", RANDOM: "#76808a"})
DARK = Theme("#161b22", "#e6edf3", "#9aa4af", "#2b323b", {CLEAN: "#56b4e9", PROTECTED: "#ff8c42", RANDOM: "#9aa4af"})


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
