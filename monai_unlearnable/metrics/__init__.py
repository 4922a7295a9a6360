# SPDX-License-Identifier: Apache-2.0
"""Figures: fidelity of protected scans, scores of victims, tests and intervals, frontiers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fidelity import LOSSLESS_PSNR, measure_fidelity, noise_level
from .first_order import region_changes, region_statistics
from .frontier import Crossing, Point, half_way, p50
from .scores import Scores

if TYPE_CHECKING:
    from .scoring import chance_level, classification_scores, multitask_scores, segmentation_scores
    from .statistics import PairedTest, area_under_curve, bootstrap_interval, paired_test

# Loaded on first use: torch and scipy.stats take long.
_WHERE = dict.fromkeys(("PairedTest", "area_under_curve", "bootstrap_interval", "paired_test"), "statistics")
_WHERE |= dict.fromkeys(("chance_level", "classification_scores", "multitask_scores", "segmentation_scores"), "scoring")

__all__ = ["Crossing", "LOSSLESS_PSNR", "Point", "Scores", "half_way", "p50"]
__all__ += ["measure_fidelity", "noise_level", "region_changes", "region_statistics"]
__all__ += ["PairedTest", "area_under_curve", "bootstrap_interval", "paired_test"]
__all__ += ["chance_level", "classification_scores", "multitask_scores", "segmentation_scores"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
