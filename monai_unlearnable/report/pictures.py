# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from monai_unlearnable.report.charts import bars
from monai_unlearnable.report.curves import curves
from monai_unlearnable.report.frontier import FrontierLine
from monai_unlearnable.report.frontiers import FIGURES, frontier_chart
from monai_unlearnable.report.heat import heat, heat_maps
from monai_unlearnable.report.montage import montage
from monai_unlearnable.report.predictions import prediction_montage
from monai_unlearnable.report.results import Results
from monai_unlearnable.utils.progress import track

__all__ = ["montage", "prediction_montage", "curves", "bars", "heat", "frontier_chart", "result_pictures"]

FRONTIERS = 3  # victims and recipes drawn
Drawing = Callable[[bool], bytes]


def result_pictures(results: Results) -> dict[str, bytes]:
    """The charts for light and dark pages, named ``x`` and ``x_dark``, as the page pairs them.

    Args:
        results: heat maps ``heat-1``, ... where there are several cells, frontiers ``frontier-1-psnr``, ... where a
            method was tried at several strengths, ``bars``, and ``curves``, as far as there is something to draw.
    """
    summaries = [s for s in results.summaries() if s.done]
    drawings: dict[str, Drawing] = {}
    if len({(s.victim, s.recipe, s.countermeasure) for s in results.summaries()}) > 1:
        for place, panel in enumerate(heat_maps(results), 1):
            drawings[f"heat-{place}"] = partial(heat, results, panel)
    for place, lines in enumerate(_frontiers(results)[:FRONTIERS], 1):
        for figure in FIGURES:
            if any(getattr(point, figure) is not None for line in lines for point in line.points):
                drawings[f"frontier-{place}-{figure}"] = partial(frontier_chart, lines, figure)
    if summaries:
        drawings["bars"] = partial(bars, results)
    if any(any(s.curves) for s in summaries):
        drawings["curves"] = partial(curves, results)
    jobs = [(name, draw, dark) for name, draw in drawings.items() for dark in (False, True)]
    return {name + "_dark" * dark: draw(dark) for name, draw, dark in track(jobs, "pictures")}


def _frontiers(results: Results) -> list[list[FrontierLine]]:
    """Lines of one victim and recipe together, where a method was tried at several strengths."""
    groups: dict[tuple[str, str], list[FrontierLine]] = {}
    for line in results.frontier():
        groups.setdefault((line.victim, line.recipe), []).append(line)
    return [lines for lines in groups.values() if max(len(line.points) for line in lines) > 1]
