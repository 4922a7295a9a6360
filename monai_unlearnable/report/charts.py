# SPDX-License-Identifier: Apache-2.0
"""The charts of a report: bars, learning curves and frontiers, labeled directly; scores in percent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from monai_unlearnable.metrics.fidelity import LOSSLESS_PSNR
from monai_unlearnable.report import canvas
from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, tidy, to_png
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.heat import heat, heat_maps
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN
from monai_unlearnable.report.summaries import Summary, iterations_of
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.progress import track

__all__ = ["bars", "curves", "frontier_chart", "result_pictures"]

BARS_WIDTH, BARS_PANELS = 5.2, 6  # inches, panels
CURVES_WIDTHS = (5.2, 6.8)  # inches, of one and of two columns
CURVES_COLUMNS, CURVES_PANELS = 2, 4
LABEL_GAP = 8.0  # percent between the labels at the ends of two curves
FIGURES = {"psnr": "PSNR of the training scans (dB)", "ssim_roi": "SSIM inside the label"}
FRONTIERS = 3  # victims and recipes drawn
FRONTIER_SIZE = (4.4, 3.8)  # inches


def result_pictures(results: Results) -> dict[str, bytes]:
    """The charts for light and dark pages, named ``x`` and ``x_dark``, as the page pairs them.

    They are heat maps ``heat-1``, ... where there are several settings, frontiers ``frontier-1-psnr``, ... where a
    method was tried at several strengths, ``bars``, and ``curves``, as far as there is something to draw.
    """
    summaries = [s for s in results.summaries() if s.done]
    drawings: dict[str, Callable[[bool], bytes]] = {}
    if len({(s.victim, s.recipe, s.countermeasure) for s in results.summaries()}) > 1:
        for place, panel in enumerate(heat_maps(results), 1):
            drawings[f"heat-{place}"] = partial(heat, results, panel)
    for place, lines in enumerate(_frontiers(results)[:FRONTIERS], 1):
        for figure in FIGURES:
            if any(math.isfinite(getattr(point, figure)) for line in lines for point in line.points):
                drawings[f"frontier-{place}-{figure}"] = partial(frontier_chart, lines, figure)
    if summaries:
        drawings["bars"] = partial(bars, results)
    if any(any(s.curves) for s in summaries):
        drawings["curves"] = partial(curves, results)
    jobs = [(name, draw, dark) for name, draw in drawings.items() for dark in (False, True)]
    return {name + "_dark" * dark: draw(dark) for name, draw, dark in track(jobs, "drawing picture")}


def _frontiers(results: Results) -> list[list[FrontierLine]]:
    """Lines of one victim and recipe together, where a method was tried at several strengths."""
    groups = grouped(results.frontier(), lambda line: (line.victim, line.recipe))
    return [lines for lines in groups.values() if max(len(line.points) for line in lines) > 1]


def bars(results: Results, dark: bool = False) -> bytes:
    """PNG with the final score of each victim and training data as bars, with intervals and a dot for each seed.

    Intervals span the seeds, or are those over test cases where there is one seed. Countermeasures are omitted, and so
    are victims and data that find no room.
    """
    theme, summaries = DARK if dark else LIGHT, results.summaries()
    panels, colors = canvas.baseline_panels(summaries, BARS_PANELS), canvas.data_colors(summaries, theme)
    count = sum(len(members) + 1 for _, members in panels)
    figure = new_figure(BARS_WIDTH, 0.9 + 0.34 * max(2, count), theme.background)
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
    axes.set(xlim=(0, 112), xticks=range(0, 101, 20), ylim=(place - 0.4, -0.6))
    axes.set_xlabel(f"final {results.metric} on clean scans (%)", color=theme.muted, fontsize=10)
    length = iterations_of(s for _, members in panels for s in members)
    after = f", {length} iterations" if length else ""
    figure.suptitle(f"What models learn from each kind of scan{after}", x=0.02, ha="left", color=theme.ink, fontsize=12)
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
    axes.text(edge + 1.5, place, f"{summary.score:.1f}{summary.mark}", color=theme.ink, fontsize=10.5, va="center")


def curves(results: Results, dark: bool = False) -> bytes:
    """PNG with learning curves: score against progress, a line for each kind of training data.

    Curves of several seeds are averaged, the band spans them. There is a panel for victims that were trained plainly,
    and for those attempts that brought most of the score back.
    """
    theme, summaries = DARK if dark else LIGHT, results.summaries()
    panels, colors = canvas.telling_panels(summaries, CURVES_PANELS), canvas.data_colors(summaries, theme)
    columns = min(CURVES_COLUMNS, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = new_figure(CURVES_WIDTHS[columns - 1], 0.9 + (3.1 if columns == 1 else 2.5) * lines, theme.background)
    length = iterations_of(summaries)
    done = f"training done (% of {length} iterations)" if length else "training done (%)"
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, members) in zip(grid, panels, strict=False):
        _draw_curves(axes, name, members, colors, theme)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel(done, color=theme.muted, fontsize=10)
        axes.tick_params(labelbottom=True)
    title = f"{results.metric[:1].upper() + results.metric[1:]} on clean scans (%) while training"
    figure.suptitle(title, x=0.02, ha="left", color=theme.ink, fontsize=12)
    figure.tight_layout(w_pad=1.5)
    return to_png(figure)


def _draw_curves(axes: Axes, name: str, members: Sequence[Summary], colors: dict[str, str], theme: Theme) -> None:
    ends = []
    for summary in members:
        known = [(run.progress, run.curve) for run in summary.scored if run.curve]
        if not known:
            continue
        (progress, values), color = _on_one_grid(known), colors[summary.data]
        mean = values.mean(axis=0)
        axes.plot(progress, mean, color=color, linewidth=2.2, solid_capstyle="round", clip_on=False, zorder=3)
        axes.plot(progress[-1], mean[-1], "o", color=color, markersize=5, clip_on=False, zorder=4)
        if len(values) > 1:
            axes.fill_between(progress, values.min(axis=0), values.max(axis=0), color=color, alpha=0.18, linewidth=0)
        ends.append((float(mean[-1]), f"{summary.words} {mean[-1]:.0f}", color))
    for height, (_, text, color) in zip(_spread([height for height, _, _ in ends]), ends, strict=True):
        axes.text(103, height, text, color=color, fontsize=10, va="center")
    tidy(axes, theme)
    axes.set_title(name, loc="left", color=theme.ink, fontsize=11, fontweight="bold")
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=range(0, 101, 25))


def _on_one_grid(curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[NDArray, NDArray]:
    """Progress in percent (moments,) of the longest curve, and all curves there (seeds, moments)."""
    longest = max((progress for progress, _ in curves), key=len)
    return 100 * np.array(longest), np.array([np.interp(longest, *curve) for curve in curves])


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights with neighbors pushed apart until labels there do not overlap."""
    order = np.argsort(heights)
    moved = np.asarray(heights, float)[order]
    for _ in range(20 * len(moved)):
        for below in range(len(moved) - 1):
            push = max(0.0, LABEL_GAP - (moved[below + 1] - moved[below])) / 2
            moved[below] -= push
            moved[below + 1] += push
    return moved[np.argsort(order)].tolist()  # type: ignore[no-any-return]


def frontier_chart(lines: Sequence[FrontierLine], figure: str = "psnr", dark: bool = False) -> bytes:
    """PNG with score against fidelity: one line a method, one marker a strength, with P50 where it lies.

    Args:
        lines: frontier lines of one victim and recipe.
        figure: figure on the horizontal axis, ``"psnr"`` or ``"ssim_roi"``; higher is closer to the originals.
        dark: whether to draw for a dark page.
    """
    theme, first = DARK if dark else LIGHT, lines[0]
    looks = canvas.method_looks(lines, theme)
    picture = new_figure(*FRONTIER_SIZE, theme.background)
    axes = picture.add_subplot()
    places = [x for line in lines for point in line.points if (x := _place(point, figure)) is not None]
    low, high = (min(places), max(places)) if places else (0.0, 1.0)
    room = 0.07 * (high - low) or (1.0 if figure == "psnr" else 0.01)
    axes.set(xlim=(low - room, high + room), ylim=(0, 102))
    _draw_levels(axes, first, theme)
    for line in lines:
        _draw_line(axes, line, figure, looks[line.method], theme)
    tidy(axes, theme)
    length = iterations_of(point for line in lines for point in line.points)
    title = f"{first.victim}, {first.recipe}" + (f", {length} iterations" if length else "")
    axes.set_xlabel(FIGURES[figure], color=theme.muted, fontsize=10)
    axes.set_ylabel(f"{first.metric} on clean scans (%)", color=theme.muted, fontsize=10)
    handles = [Line2D([], [], color=c, marker=mark, markersize=6, label=name) for name, (c, mark) in looks.items()]
    legend = axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncols=3, frameon=False)
    for text in legend.get_texts():
        text.set(color=theme.ink, fontsize=9)
    picture.text(0.03, 1 - 0.2 / FRONTIER_SIZE[1], title, color=theme.ink, fontsize=11, fontweight="bold", va="center")
    top = 1 - (0.52 + 0.2 * -(-len(handles) // 3)) / FRONTIER_SIZE[1]
    picture.subplots_adjust(left=0.13, right=0.81, bottom=0.14, top=top)
    return to_png(picture)


def _place(point: Summary, figure: str) -> float | None:
    value: float = getattr(point, figure)
    return value if value < LOSSLESS_PSNR else None  # NaN is not


def _draw_levels(axes: Axes, line: FrontierLine, theme: Theme) -> None:
    """Horizontal lines of the clean control, half-way and chance."""
    levels = (
        (line.clean, "clean", "-", theme.training[CLEAN]),
        (line.halfway, "half", "--", theme.muted),
        (line.chance, "chance", ":", theme.muted),
    )
    for height, name, style, color in levels:
        if np.isfinite(height):
            axes.axhline(height, color=color, linestyle=style, linewidth=1.3, zorder=1)
            text, right = f"{name} {height:.1f}", axes.get_yaxis_transform()
            axes.text(1.015, height, text, color=color, fontsize=8.5, va="center", transform=right)


def _draw_line(axes: Axes, line: FrontierLine, figure: str, look: tuple[str, str], theme: Theme) -> None:
    color, marker = look
    points = sorted((p for p in line.points if _place(p, figure) is not None), key=lambda p: getattr(p, figure))
    if not points:
        return
    x, y = (np.array([getattr(point, name) for point in points], float) for name in (figure, "score"))
    ends = np.array([point.interval for point in points], float)
    axes.errorbar(
        x, y, np.nan_to_num(np.abs(ends - y[:, None]).T), color=color, linewidth=1.8, elinewidth=1.1, capsize=2.5,
        marker=marker, markersize=6, markeredgecolor=theme.background, markeredgewidth=0.8, zorder=3,
    )  # fmt: skip
    crossing, bound = (line.p50, line.bound) if figure == "psnr" else (line.ssim50, line.ssim_bound)
    if crossing is None or crossing >= LOSSLESS_PSNR:
        return
    axes.plot((crossing, crossing), (0, line.halfway), color=color, linestyle=":", linewidth=1.4, zorder=2)
    height = line.halfway if bound == "exact" else float(np.interp(crossing, x, y))
    axes.plot(crossing, height, "o", markersize=13, markerfacecolor="none", markeredgecolor=color, zorder=4)
    least = "≥ " if bound != "exact" else ""
    text = f"P50 {least}{crossing:.1f}" if figure == "psnr" else f"half {least}{crossing:.3f}"
    right = crossing > np.mean(axes.get_xlim())
    box = {"facecolor": theme.background, "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
    below = sum(other.get_text().startswith(("P50", "half ")) for other in axes.texts)  # each label has its own line
    axes.annotate(
        text, (crossing, 0), (-4 if right else 4, 5 + 11 * below), textcoords="offset points", color=color,
        fontsize=9, ha="right" if right else "left", bbox=box, zorder=5,
    )  # fmt: skip
