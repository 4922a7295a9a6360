# SPDX-License-Identifier: Apache-2.0
"""Final scores of victims as bars, labeled directly; in percent on clean held-out scans."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, data_colors, new_figure, tidy, to_png
from monai_unlearnable.report.panels import baseline_panels
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.summaries import Summary

__all__ = ["bars"]

WIDTH = 5.2  # inches
PANELS = 6


def bars(results: Results, dark: bool = False) -> bytes:
    """Final score of each victim and training data as bars, with intervals and a dot for each seed.

    Args:
        results: intervals span the seeds, or are those over test cases where there is one seed; countermeasures are
            left out, and so are victims and data that find no room.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, summaries = DARK if dark else LIGHT, results.summaries()
    panels, colors = baseline_panels(summaries, PANELS), data_colors(summaries, theme)
    count = sum(len(members) + 1 for _, members in panels)
    figure = new_figure(WIDTH, 0.9 + 0.34 * max(2, count), theme.background)
    axes, place, ticks = figure.add_subplot(), 0, []
    for name, members in panels:
        axes.text(0, place, name, color=theme.ink, fontsize=11, fontweight="bold", va="center")
        for summary in members:
            place += 1
            _draw_bar(axes, place, summary, colors[summary.data], theme)
            ticks.append((place, summary.words))
        place += 1
    tidy(axes, theme, grid="x")
    axes.set_yticks([tick for tick, _ in ticks], [word for _, word in ticks], color=theme.ink, fontsize=10.5)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlabel(f"final {results.metric} on clean scans (%)", color=theme.muted, fontsize=10)
    figure.suptitle("What models learn from each kind of scan", x=0.02, ha="left", color=theme.ink, fontsize=12)
    figure.tight_layout()
    return to_png(figure)


def _draw_bar(axes: Axes, place: int, summary: Summary, color: str, theme: Theme) -> None:
    low, high = summary.interval
    axes.barh(place, summary.score, height=0.66, color=color)
    axes.plot((low, high), (place, place), color=theme.ink, linewidth=1.6, solid_capstyle="butt")
    if summary.seeds > 1:
        dots = [place] * summary.seeds
        axes.plot(summary.finals, dots, "o", color=theme.background, markeredgecolor=theme.ink, markersize=4)
    edge = np.nanmax([summary.score, high])
    axes.text(edge + 1.5, place, f"{summary.score:.1f}", color=theme.ink, fontsize=10.5, va="center")
