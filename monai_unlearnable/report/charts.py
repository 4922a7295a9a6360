# SPDX-License-Identifier: Apache-2.0
"""The charts of a report: bars, learning curves, frontiers and heat maps, labeled directly; scores in percent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from monai_unlearnable.metrics.fidelity import LOSSLESS_PSNR
from monai_unlearnable.report import canvas
from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, tidy, to_png
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import Summary, iterations_of, victim_name
from monai_unlearnable.report.tables import NONE
from monai_unlearnable.utils.grouping import distinct, grouped
from monai_unlearnable.utils.progress import track

__all__ = ["HeatMap", "bars", "curves", "frontier_chart", "heat", "heat_maps", "result_pictures"]

BARS_WIDTH, BARS_PANELS = 5.2, 6  # inches, panels
CURVES_WIDTHS = (5.2, 6.8)  # inches, of one and of two columns
CURVES_COLUMNS, CURVES_PANELS = 2, 4
LABEL_GAP = 8.0  # percent between the labels at the ends of two curves
FIGURES = {"psnr": "PSNR of the training scans (dB)", "ssim_roi": "SSIM inside the label"}
FRONTIERS = 3  # victims and recipes drawn
FRONTIER_SIZE = (4.4, 3.8)  # inches
HEAT_MAPS, HEAT_COLUMNS = 12, 12
HEAT_ORDER = (PROTECTED, RANDOM, CLEAN)
SQUARE_WIDTH, SQUARE_HEIGHT, LETTER, TITLE_LETTER = 0.64, 0.42, 0.082, 0.1  # inches, of a heat map
TITLE, SCALE, MARGIN, NARROWEST = 0.42, 0.52, 0.12, 3.2  # inches, of a heat map
TILT = math.radians(40)  # of long names of columns
STAR = "*"  # of means that seeds without a score are missing from


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
