# SPDX-License-Identifier: Apache-2.0
"""Heat maps of a report: victims and recipes against countermeasures or data; scores in percent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from monai_unlearnable.report import canvas
from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, to_png
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary, iterations_of, victim_name
from monai_unlearnable.report.tables import NONE
from monai_unlearnable.utils.grouping import distinct

__all__ = ["HeatMap", "heat", "heat_maps"]

HEAT_MAPS, HEAT_COLUMNS = 12, 12
HEAT_ORDER = (PROTECTED, RANDOM, CLEAN)
SQUARE_WIDTH, SQUARE_HEIGHT, LETTER, TITLE_LETTER = 0.64, 0.42, 0.082, 0.1  # inches, of a heat map
TITLE, SCALE, MARGIN, NARROWEST = 0.42, 0.52, 0.12, 3.2  # inches, of a heat map
TILT = math.radians(40)  # of long names of columns
STAR = "*"  # of means that seeds without a score are missing from


@dataclass(frozen=True)
class HeatMap:
    """One panel.

    Args:
        title: title above it.
        rows: names of victims and recipes, top to bottom.
        columns: names, left to right.
        squares: content by row and column; none for what was not tried.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    squares: dict[tuple[str, str], Summary]


def heat_maps(results: Results) -> list[HeatMap]:
    """Victims and recipes against countermeasures, a panel for each data; against data where there is none of these.

    Protected data come first, the originals last. Wide panels are cut, and the last ones omitted.
    """
    summaries = results.summaries()
    treated = any(s.countermeasure != NO_COUNTERMEASURE for s in summaries)
    entries = [
        (f"Trained on {s.words}" if treated else "By training data", s.countermeasure if treated else s.words, s)
        for s in sorted(summaries, key=lambda s: HEAT_ORDER.index(s.training))
    ]
    columns = distinct(s.countermeasure for s in summaries) if treated else distinct(name for _, name, _ in entries)
    rows = tuple(distinct(victim_name(s, summaries) for s in summaries))
    maps = []
    for title in distinct(title for title, _, _ in entries):
        for start in range(0, len(columns), HEAT_COLUMNS):
            part = tuple(columns[start : start + HEAT_COLUMNS])
            squares = {(victim_name(s, summaries), name): s for t, name, s in entries if t == title and name in part}
            length = iterations_of(squares.values())
            words = f"{title}{f', {length} iterations' if length else ''}{', continued' if start else ''}"
            maps += [HeatMap(words, rows, part, squares)] if squares else []
    return maps[:HEAT_MAPS]


def heat(results: Results, panel: HeatMap, dark: bool = False) -> bytes:
    """PNG with one heat map: blue where models learn as from the originals, orange where they learn nothing.

    Args:
        results: results that hold the controls.
        panel: panel from :func:`heat_maps`.
        dark: whether to draw for a dark page.
    """
    theme, controlled = DARK if dark else LIGHT, ControlledSummaries(results.summaries())
    colors = LinearSegmentedColormap.from_list("learned", [theme.cold, theme.middle, theme.warm])
    left = MARGIN + LETTER * max(map(len, panel.rows))
    longest = 0.9 * LETTER * max(map(len, panel.columns))
    tilted = longest > SQUARE_WIDTH
    names = 0.12 + (longest * math.sin(TILT) if tilted else LETTER) + 0.1
    left = max(left, longest * math.cos(TILT) - SQUARE_WIDTH / 2 if tilted else 0)
    inner, height = SQUARE_WIDTH * len(panel.columns), SQUARE_HEIGHT * len(panel.rows)
    title = 2 * MARGIN + TITLE_LETTER * len(panel.title)
    width, total = max(NARROWEST, title, left + inner + MARGIN), TITLE + height + names + SCALE
    figure = new_figure(width, total, theme.background)
    axes = figure.add_axes((left / width, (names + SCALE) / total, inner / width, height / total))
    for y, row in enumerate(panel.rows):
        for x, column in enumerate(panel.columns):
            _draw_square(axes, x, y, panel.squares.get((row, column)), controlled, colors, theme)
    axes.set_facecolor(theme.background)
    axes.set_xlim(0, len(panel.columns))
    axes.set_ylim(len(panel.rows), 0)
    axes.set_xticks(np.arange(len(panel.columns)) + 0.5, panel.columns, color=theme.ink, fontsize=9.5)
    for label in axes.get_xticklabels() if tilted else ():
        label.set(rotation=math.degrees(TILT), ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(panel.rows)) + 0.5, panel.rows, color=theme.ink, fontsize=9.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.text(0.1 / width, 1 - 0.2 / total, panel.title, color=theme.ink, fontsize=11, fontweight="bold", va="center")
    _draw_scale(figure, colors, theme)
    return to_png(figure)


def _draw_square(
    axes: Axes, x: int, y: int, summary: Summary | None, controlled: ControlledSummaries, colors: Colormap, theme: Theme
) -> None:
    fraction = math.nan if summary is None else controlled.fraction(summary)
    known, failed = math.isfinite(fraction), summary is not None and not summary.done
    color = to_rgb(colors(min(1.0, max(0.0, fraction)))) if known else to_rgb(theme.background)
    box = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, facecolor=color, linewidth=0 if known else 0.6)
    box.set(edgecolor=theme.muted if failed else theme.grid, hatch="////" if failed else None)
    axes.add_patch(box)
    if summary is None:
        text, size = NONE, 9.5
    elif failed:
        text, size = summary.failure, 7.5
    else:
        text, size = f"{summary.score:.1f}{summary.mark}{STAR * bool(summary.note)}", 9.5
    letters = axes.text(x + 0.5, y + 0.5, text, fontsize=size, ha="center", va="center", color=_ink(color))
    if failed:
        letters.set_bbox({"facecolor": theme.background, "edgecolor": "none", "pad": 1.2})


def _ink(color: tuple[float, float, float]) -> str:
    """Black or white, whichever keeps more contrast (WCAG 2.2, relative luminance)."""
    parts = np.array(color)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#0b0e12"


def _draw_scale(figure: Figure, colors: Colormap, theme: Theme) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.1 / width, 0.3 / height, min(3.0, width - 0.2) / width, 0.09 / height))
    canvas.draw_scale(axes, colors, ("chance", "half-way", "clean control"), theme.muted, 8.5)
    for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set(ha=side)
