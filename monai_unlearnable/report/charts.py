# SPDX-License-Identifier: Apache-2.0
"""Charts of what victims reached, labeled directly; Dice in percent on clean held-out scans."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, tidy, to_png
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import WORDS, Summary
from monai_unlearnable.report.table import victim_name

__all__ = ["bars", "curves"]

LABEL_GAP = 7.0  # percent of Dice between the labels at the ends of two curves
WIDTH = 6.8  # inches
COLUMNS = 2


def curves(results: Results, dark: bool = False) -> bytes:
    """Learning curves: Dice against progress, a panel for each victim, a line for each kind of training data.

    Args:
        results: curves of several seeds are averaged; the band spans them.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, panels = DARK if dark else LIGHT, _panels(results)
    columns = min(COLUMNS, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = new_figure(WIDTH, 0.9 + (3.1 if columns == 1 else 2.5) * lines, theme.background)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, summaries) in zip(grid, panels, strict=False):
        _draw_curves(axes, name, summaries, theme)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("training done (%)", color=theme.muted, fontsize=10)
        axes.tick_params(labelbottom=True)
    figure.suptitle("Dice on clean scans (%) while training", x=0.02, ha="left", color=theme.ink, fontsize=12)
    figure.tight_layout(w_pad=1.5)
    return to_png(figure)


def bars(results: Results, dark: bool = False) -> bytes:
    """Final Dice of each victim and training data as bars, with intervals and a dot for each seed.

    Args:
        results: intervals span the seeds, or are those over test cases where there is one seed.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, panels = DARK if dark else LIGHT, _panels(results)
    count = sum(len(summaries) + 1 for _, summaries in panels)
    figure = new_figure(WIDTH, 0.9 + 0.34 * max(2, count), theme.background)
    axes, place, ticks = figure.add_subplot(), 0, []
    for name, summaries in panels:
        axes.text(0, place, name, color=theme.ink, fontsize=11, fontweight="bold", va="center")
        for summary in summaries:
            place += 1
            _draw_bar(axes, place, summary, theme)
            ticks.append((place, WORDS[summary.training]))
        place += 1
    tidy(axes, theme, grid="x")
    axes.set_yticks([tick for tick, _ in ticks], [word for _, word in ticks], color=theme.ink, fontsize=10.5)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlabel("final Dice on clean scans (%)", color=theme.muted, fontsize=10)
    figure.suptitle("What models learn from each kind of scan", x=0.02, ha="left", color=theme.ink, fontsize=12)
    figure.tight_layout()
    return to_png(figure)


def _panels(results: Results) -> list[tuple[str, list[Summary]]]:
    summaries = results.summaries()
    groups = groupby(summaries, key=lambda summary: victim_name(summary, summaries))
    return [(name, list(group)) for name, group in groups]


def _draw_curves(axes: Axes, name: str, summaries: Sequence[Summary], theme: Theme) -> None:
    ends = []
    for summary in summaries:
        progress, values = _on_one_grid([curve for curve in summary.curves if curve])
        if not len(values):
            continue
        color = theme.training[summary.training]
        mean = values.mean(axis=0)
        axes.plot(progress, mean, color=color, linewidth=2.2, solid_capstyle="round", clip_on=False, zorder=3)
        axes.plot(progress[-1], mean[-1], "o", color=color, markersize=5, clip_on=False, zorder=4)
        if len(values) > 1:
            axes.fill_between(progress, values.min(axis=0), values.max(axis=0), color=color, alpha=0.18, linewidth=0)
        ends.append((float(mean[-1]), f"{WORDS[summary.training]} {mean[-1]:.0f}", color))
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


def _draw_bar(axes: Axes, place: int, summary: Summary, theme: Theme) -> None:
    color = theme.training[summary.training]
    low, high = summary.interval
    axes.barh(place, summary.dice, height=0.66, color=color)
    axes.plot((low, high), (place, place), color=theme.ink, linewidth=1.6, solid_capstyle="butt")
    if summary.seeds > 1:
        dots = [place] * summary.seeds
        axes.plot(summary.finals, dots, "o", color=theme.background, markeredgecolor=theme.ink, markersize=4)
    edge = np.nanmax([summary.dice, high])
    axes.text(edge + 1.5, place, f"{summary.dice:.1f}", color=theme.ink, fontsize=10.5, va="center")
