# SPDX-License-Identifier: Apache-2.0
"""Figures: fidelity of protected scans, scores of victims, tests and intervals, frontiers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fidelity import LOSSLESS_PSNR, measure_fidelity, noise_level, region_changes, region_statistics
from .frontier import Crossing, Point, Scores, half_way, p50

if TYPE_CHECKING:
    from .scores import chance_level, classification_scores, segmentation_scores
    from .statistics import PairedTest, bootstrap_interval, paired_test

# Loaded on first use.
_WHERE = {
    "PairedTest": "statistics",
    "bootstrap_interval": "statistics",
    "chance_level": "scores",
    "classification_scores": "scores",
    "paired_test": "statistics",
    "segmentation_scores": "scores",
}

__all__ = [
    "Crossing",
    "LOSSLESS_PSNR",
    "PairedTest",
    "Point",
    "Scores",
    "bootstrap_interval",
    "chance_level",
    "classification_scores",
    "half_way",
    "measure_fidelity",
    "noise_level",
    "p50",
    "paired_test",
    "region_changes",
    "region_statistics",
    "segmentation_scores",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
