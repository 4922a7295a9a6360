# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report as PNG bytes."""

from __future__ import annotations

from monai_unlearnable.report.charts import bars, curves
from monai_unlearnable.report.montage import montage
from monai_unlearnable.report.results import Results

__all__ = ["montage", "curves", "bars", "result_pictures"]


def result_pictures(results: Results) -> dict[str, bytes]:
    """The charts for light and dark pages, named ``x`` and ``x_dark``, as the page pairs them."""
    if not results.rows:
        return {}
    charts = {"bars": bars, "curves": curves}
    return {name + "_dark" * dark: draw(results, dark) for name, draw in charts.items() for dark in (False, True)}
