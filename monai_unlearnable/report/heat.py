# SPDX-License-Identifier: Apache-2.0
"""Heat maps of the matrix: each number in its cell, colored by where it lies between chance and the clean control."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, to_png
from monai_unlearnable.report.columns import NONE, victim_name
from monai_unlearnable.report.matrix import Matrix, distinct
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary

__all__ = ["HeatMap", "heat_maps", "heat"]

STAR = "*"  # of means that leave out seeds without a score
ORDER = (PROTECTED, RANDOM, CLEAN)
MAPS, COLUMNS = 12, 12
LETTER, CELL_WIDTH, CELL_HEIGHT = 0.082, 0.64, 0.42  # inches
TITLE, SCALE, MARGIN = 0.42, 0.52, 0.12  # inches
NARROWEST = 3.2  # inches
TILT = math.radians(40)  # of long names of columns


@dataclass(frozen=True)
class HeatMap:
    """One panel.

    Args:
        title: above it.
        rows: names of victims and recipes, top to bottom.
        columns: names, left to right.
        cells: by row and column; what was not tried is not there.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], Summary]


def heat_maps(results: Results) -> list[HeatMap]:
    """Victims and recipes against countermeasures, a panel for each data; against data where there is none of these.

    Args:
        results: whose protected data come first, the originals last. Wide panels are cut, and the last ones left out.
    """
    summaries = results.summaries()
    treated = any(s.countermeasure != NO_COUNTERMEASURE for s in summaries)
    entries = [
        (f"Trained on {s.words}" if treated else "By training data", s.countermeasure if treated else s.words, s)
        for s in sorted(summaries, key=lambda s: ORDER.index(s.training))
    ]
    columns = distinct(s.countermeasure for s in summaries) if treated else distinct(name for _, name, _ in entries)
    rows = tuple(distinct(victim_name(s, summaries) for s in summaries))
    maps = []
    for title in distinct(title for title, _, _ in entries):
        for start in range(0, len(columns), COLUMNS):
            part = tuple(columns[start : start + COLUMNS])
            cells = {(victim_name(s, summaries), name): s for t, name, s in entries if t == title and name in part}
            maps += [HeatMap(f"{title}{', continued' if start else ''}", rows, part, cells)] if cells else []
    return maps[:MAPS]


def heat(results: Results, panel: HeatMap, dark: bool = False) -> bytes:
    """One heat map: blue where models learn as from the originals, orange where they learn nothing.

    Args:
        results: where controls are looked up.
        panel: one of :func:`heat_maps`.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, matrix = DARK if dark else LIGHT, Matrix(results.summaries())
    colors = LinearSegmentedColormap.from_list("learned", [theme.cold, theme.middle, theme.warm])
    left = MARGIN + LETTER * max(map(len, panel.rows))
    longest = 0.9 * LETTER * max(map(len, panel.columns))
    tilted = longest > CELL_WIDTH
    names = 0.12 + (longest * math.sin(TILT) if tilted else LETTER) + 0.1
    left = max(left, longest * math.cos(TILT) - CELL_WIDTH / 2 if tilted else 0)
    inner, height = CELL_WIDTH * len(panel.columns), CELL_HEIGHT * len(panel.rows)
    width = max(NARROWEST, left + inner + MARGIN)
    figure = new_figure(width, TITLE + height + names + SCALE, theme.background)
    total = TITLE + height + names + SCALE
    axes = figure.add_axes((left / width, (names + SCALE) / total, inner / width, height / total))
    for y, row in enumerate(panel.rows):
        for x, column in enumerate(panel.columns):
            _draw_cell(axes, x, y, panel.cells.get((row, column)), matrix, colors, theme)
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


def _draw_cell(
    axes: Axes, x: int, y: int, summary: Summary | None, matrix: Matrix, colors: Colormap, theme: Theme
) -> None:
    fraction = math.nan if summary is None else matrix.fraction(summary)
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
        text, size = f"{summary.score:.1f}{STAR * bool(summary.note)}", 9.5
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
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=colors, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks((0, 0.5, 1), ("chance", "half-way", "clean control"), color=theme.muted, fontsize=8.5)
    for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set(ha=side)
    axes.set_yticks(())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
