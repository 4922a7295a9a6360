# SPDX-License-Identifier: Apache-2.0
"""The page of a trace: how a model answered to the owner's mark, among its answers to others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, new_figure, tidy, to_png
from monai_unlearnable.report.html import pictures_by_kind, render
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.utils.files import write_atomic
from monai_unlearnable.utils.text import of_255

__all__ = ["trace_page", "write_trace_page"]

SIZE = (6.8, 2.6)  # inches
BINS = 30
STATISTICS = {
    "dice": "mean Dice over probes and classes",
    "log_probability": "mean logarithm of the probability of the true class",
    "accuracy": "fraction of probes with the right class",
}
NAME = "marks"  # of the picture


def trace_page(content: Mapping[str, Any]) -> str:
    """The page as HTML: no scripts, nothing loaded from elsewhere.

    Args:
        content: what ``result.json`` of a trace holds.
    """
    plan, result = content["plan"], content["result"]
    pictures = {f"{NAME}{'_dark' * (theme is DARK)}": _picture(content, theme) for theme in (LIGHT, DARK)}
    return render(
        "trace",
        content=content,
        plan=plan,
        result=result,
        picture=pictures_by_kind(pictures)["other"][0],
        statistic=STATISTICS[plan["statistic"]],
        asked=[
            ("Model", plan["model"]),
            ("SHA-256 of the model", plan.get("model_sha256") or "not known: its weights were not seen"),
            ("Probes", f"{content['probes']} scans, marked with a change of at most {of_255(plan['epsilon'])}"),
            ("Marks", f"the owner's and {result['others']} others, of {plan['others']} that were planned"),
            ("Score", STATISTICS[plan["statistic"]]),
            ("Owner's mark", f"{result['own']:.4g}"),
            ("Other marks", _range(content["statistics"][1:])),
            ("No mark", _unmarked(content)),
            ("Date", content["date"]),
            ("Time", f"{content['seconds']:,.0f} s"),
            ("Commitment of the statement", plan["mark_sha256"]),
        ],
    )


def write_trace_page(content: Mapping[str, Any], path: Path) -> None:
    """Write :func:`trace_page` to a file, atomically."""
    write_atomic(path, trace_page(content).encode("utf-8", "backslashreplace"))


def _unmarked(content: Mapping[str, Any]) -> str:
    score = content["result"]["unmarked"]
    if score is None:
        return "–"
    return f"{score:.4g}{', asked before and after: the same score' * bool(content.get('asked_again'))}"


def _range(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{np.mean(values):.4g} ± {np.std(values):.2g}, at most {max(values):.4g}"


def _picture(content: Mapping[str, Any], theme: Theme) -> bytes:
    """Histogram of the other marks, with a line for the owner's."""
    own, *others = content["statistics"]
    figure = new_figure(*SIZE, theme.background)
    axes = figure.add_axes((0.07, 0.22, 0.9, 0.62))
    low, high = min([own, *others]), max([own, *others])
    margin = 0.05 * (high - low) or 0.01
    axes.hist(others, bins=np.linspace(low - margin, high + margin, BINS + 1).tolist(), color=theme.muted)
    color = theme.training[PROTECTED]
    axes.axvline(own, color=color, linewidth=2.5)
    side = "right" if own > (low + high) / 2 else "left"
    axes.annotate(
        "owner's mark",
        (own, 1.04),
        xycoords=("data", "axes fraction"),
        ha=side,
        color=color,
        fontsize=10.5,
        fontweight="bold",
    )
    tidy(axes, theme)
    axes.set_xlabel(STATISTICS[content["plan"]["statistic"]], color=theme.muted, fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure)
