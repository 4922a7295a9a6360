# SPDX-License-Identifier: Apache-2.0
"""Figures: fidelity of protected scans, scores of victims, tests and intervals, frontiers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fidelity import LOSSLESS_PSNR, measure_fidelity
from .frontier import Crossing, Point, half_way, p50
from .noise_level import noise_level
from .protection import Scores
from .regions import region_changes, region_statistics

if TYPE_CHECKING:
    from .classification import chance_level, classification_scores
    from .segmentation import segmentation_scores
    from .statistics import PairedTest, bootstrap_interval, paired_test

# Loaded on first use: whoever reads or measures figures must not pay for torch and for SciPy's distributions.
_WHERE = {
    "PairedTest": "statistics",
    "bootstrap_interval": "statistics",
    "chance_level": "classification",
    "classification_scores": "classification",
    "paired_test": "statistics",
    "segmentation_scores": "segmentation",
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
