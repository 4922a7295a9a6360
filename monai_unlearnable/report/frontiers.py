# SPDX-License-Identifier: Apache-2.0
"""The frontier as a chart: what models learn against how close the scans are to the originals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from monai_unlearnable.metrics.fidelity import LOSSLESS_PSNR
from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, method_looks, new_figure, tidy, to_png
from monai_unlearnable.report.frontier import FrontierLine, FrontierPoint
from monai_unlearnable.report.rows import CLEAN

__all__ = ["FIGURES", "frontier_chart"]

FIGURES = {"psnr": "PSNR of the training scans (dB)", "ssim_roi": "SSIM inside the label"}
SIZE = (4.4, 3.8)  # inches


def frontier_chart(lines: Sequence[FrontierLine], figure: str = "psnr", dark: bool = False) -> bytes:
    """Score against fidelity: one line a method, one marker a strength, with P50 where it lies.

    Args:
        lines: of one victim and recipe.
        figure: ``"psnr"`` or ``"ssim_roi"``: what is to the right; higher is closer to the originals.
        dark: whether for a dark page.

    Returns:
        PNG bytes.
    """
    theme, first = DARK if dark else LIGHT, lines[0]
    num_validations = method_looks(lines, theme)
    picture = new_figure(*SIZE, theme.background)
    axes = picture.add_subplot()
    places = [x for line in lines for point in line.points if (x := _place(point, figure)) is not None]
    low, high = (min(places), max(places)) if places else (0.0, 1.0)
    room = 0.07 * (high - low) or (1.0 if figure == "psnr" else 0.01)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(0, 102)
    _draw_levels(axes, first, theme)
    for line in lines:
        _draw_line(axes, line, figure, num_validations[line.method], theme)
    tidy(axes, theme)
    title = f"{first.victim}, {first.recipe}"
    axes.set_xlabel(FIGURES[figure], color=theme.muted, fontsize=10)
    axes.set_ylabel(f"{first.metric} on clean scans (%)", color=theme.muted, fontsize=10)
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=6, label=name)
        for name, (color, marker) in num_validations.items()
    ]
    legend = axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncols=3, frameon=False)
    for text in legend.get_texts():
        text.set(color=theme.ink, fontsize=9)
    picture.text(0.03, 1 - 0.2 / SIZE[1], title, color=theme.ink, fontsize=11, fontweight="bold", va="center")
    picture.subplots_adjust(left=0.13, right=0.81, bottom=0.14, top=1 - (0.52 + 0.2 * -(-len(handles) // 3)) / SIZE[1])
    return to_png(picture)


def _place(point: FrontierPoint, figure: str) -> float | None:
    value: float | None = getattr(point, figure)
    return None if value is None or value >= LOSSLESS_PSNR else value


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
    known = [(place, point) for point in line.points if (place := _place(point, figure)) is not None]
    if not known:
        return
    known.sort(key=lambda pair: pair[0])
    x, y = (np.array(values, float) for values in zip(*((place, point.score) for place, point in known), strict=True))
    ends = np.array([point.interval for _, point in known], float)
    axes.errorbar(
        x,
        y,
        np.nan_to_num(np.abs(ends - y[:, None]).T),
        color=color,
        marker=marker,
        markersize=6,
        linewidth=1.8,
        elinewidth=1.1,
        capsize=2.5,
        zorder=3,
        markeredgecolor=theme.background,
        markeredgewidth=0.8,
    )
    crossing, bound = (line.p50, line.bound) if figure == "psnr" else (line.ssim50, line.ssim_bound)
    if crossing is None or crossing >= LOSSLESS_PSNR:
        return
    axes.plot((crossing, crossing), (0, line.halfway), color=color, linestyle=":", linewidth=1.4, zorder=2)
    height = line.halfway if bound == "exact" else float(np.interp(crossing, x, y))
    axes.plot(crossing, height, "o", markersize=13, markerfacecolor="none", markeredgecolor=color, zorder=4)
    name = "P50" if figure == "psnr" else "half"
    written = f"{crossing:.1f}" if figure == "psnr" else f"{crossing:.3f}"
    text = f"{name} {'≥ ' if bound != 'exact' else ''}{written}"
    right = crossing > np.mean(axes.get_xlim())
    box = {"facecolor": theme.background, "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
    axes.annotate(
        text, (crossing, 0), (-4 if right else 4, 5 + 11 * _below(axes)), textcoords="offset points", color=color,
        fontsize=9, ha="right" if right else "left", bbox=box, zorder=5,
    )  # fmt: skip


def _below(axes: Axes) -> int:
    """How many crossings are labeled already: each label has a line of its own."""
    return sum(1 for text in axes.texts if text.get_text().startswith(("P50", "half ")))
