# SPDX-License-Identifier: Apache-2.0
"""Learning curves, labeled directly; scores in percent on clean held-out scans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, data_colors, new_figure, tidy, to_png
from monai_unlearnable.report.columns import capital
from monai_unlearnable.report.panels import telling_panels
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.summaries import Summary

__all__ = ["curves"]

LABEL_GAP = 8.0  # percent between the labels at the ends of two curves
WIDTHS = (5.2, 6.8)  # inches, of one and of two columns
COLUMNS, PANELS = 2, 4


def curves(results: Results, dark: bool = False) -> bytes:
    """Learning curves: score against progress, a line for each kind of training data.

    Args:
        results: curves of several seeds are averaged, the band spans them; a panel for victims that were trained
            plainly, and for those attempts that brought most of the score back.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, summaries = DARK if dark else LIGHT, results.summaries()
    panels, colors = telling_panels(summaries, PANELS), data_colors(summaries, theme)
    columns = min(COLUMNS, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = new_figure(WIDTHS[columns - 1], 0.9 + (3.1 if columns == 1 else 2.5) * lines, theme.background)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, members) in zip(grid, panels, strict=False):
        _draw_curves(axes, name, members, colors, theme)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("training done (%)", color=theme.muted, fontsize=10)
        axes.tick_params(labelbottom=True)
    title = f"{capital(results.metric)} on clean scans (%) while training"
    figure.suptitle(title, x=0.02, ha="left", color=theme.ink, fontsize=12)
    figure.tight_layout(w_pad=1.5)
    return to_png(figure)


def _draw_curves(axes: Axes, name: str, members: Sequence[Summary], colors: dict[str, str], theme: Theme) -> None:
    ends = []
    for summary in members:
        progress, values = _on_one_grid([curve for curve in summary.curves if curve])
        if not len(values):
            continue
        color = colors[summary.data]
        mean = values.mean(axis=0)
        axes.plot(progress, mean, color=color, linewidth=2.2, solid_capstyle="round", clip_on=False, zorder=3)
        axes.plot(progress[-1], mean[-1], "o", color=color, markersize=5, clip_on=False, zorder=4)
        if len(values) > 1:
            axes.fill_between(progress, values.min(axis=0), values.max(axis=0), color=color, alpha=0.18, linewidth=0)
        ends.append((float(mean[-1]), f"{summary.words} {mean[-1]:.0f}", color))
    heights = _spread([height for height, _, _ in ends])
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.text(103, height, text, color=color, fontsize=10, va="center")
    tidy(axes, theme)
    axes.set_title(name, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xticks((0, 50, 100))
    axes.set_yticks(range(0, 101, 25))


def _on_one_grid(curves: Sequence[Sequence[float]]) -> tuple[NDArray, NDArray]:
    """Progress in percent (moments,) of the longest curve, and all curves there (seeds, moments)."""
    if not curves:
        return np.empty(0), np.empty((0, 0))
    progress = [100 * np.arange(1, len(curve) + 1) / len(curve) for curve in curves]
    longest = max(progress, key=len)
    return longest, np.array([np.interp(longest, *pair) for pair in zip(progress, curves, strict=True)])


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights with neighbors pushed apart until labels there do not overlap."""
    order = np.argsort(heights)
    moved = np.asarray(heights, float)[order]
    for _ in range(20 * len(moved)):
        for below in range(len(moved) - 1):
            push = max(0.0, LABEL_GAP - (moved[below + 1] - moved[below])) / 2
            moved[below] -= push
            moved[below + 1] += push
    result = np.empty(len(moved))
    result[order] = moved
    return [float(height) for height in result]
