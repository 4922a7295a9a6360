# SPDX-License-Identifier: Apache-2.0
"""Volume and first-order statistics of regions, and how much they change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.arrays import known_values, without_channel

__all__ = ["region_changes", "region_statistics"]

BINS = 32


def region_statistics(
    image: ArrayLike,
    label: ArrayLike,
    spacing: Sequence[float] | None = None,
    bin_width: float | None = None,
) -> dict[int, dict[str, float]]:
    """Volume and first-order statistics of each class.

    Definitions are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2020, reference manual
    sec. 3.3 and 3.4) and of pyradiomics (van Griethuysen et al. 2017). They agree except for the kurtosis, which is
    pyradiomics' (3 for a normal distribution; the initiative subtracts 3). Variances divide by the number of voxels.
    Skewness and kurtosis of a constant region are 0.

    Args:
        image: physical intensities, (spatial...) or (1, spatial...); NaN counts for the volume only.
        label: class indices in the same shape; 0 is background.
        spacing: voxel size in mm, one number a spatial axis; 1 without it.
        bin_width: width of the bins of entropy and uniformity, in units of the image, with edges at its multiples as in
            pyradiomics (25 is usual for Hounsfield units). Without it there are 32 bins from the lowest to the highest
            intensity of the region, which suits units that are arbitrary.

    Returns:
        Figures by name, for each class in the label.

        They are ``volume`` (mm^3, or mm^2 in 2D), ``mean``, ``standard_deviation``, ``minimum``, ``percentile_10``,
        ``median``, ``percentile_90``, ``maximum``, ``interquartile_range``, ``skewness``, ``kurtosis``, ``energy`` (sum
        of squares), ``entropy`` (bits) and ``uniformity``.

    Raises:
        InputError: when shapes do not fit, or the bin width is not positive.
    """
    if bin_width is not None and not bin_width > 0:
        raise InputError(f"the width of bins must be positive, not {bin_width}")
    dims = None if spacing is None else len(spacing)
    voxels, classes = (without_channel(np.asarray(array), dims) for array in (image, label))
    if voxels.shape != classes.shape or dims not in (None, voxels.ndim):
        raise InputError(f"image {voxels.shape}, label {classes.shape} and spacing {spacing} do not fit together")
    unit = math.prod(spacing) if spacing is not None else 1.0
    return {
        int(index): {"volume": values.size * unit, **_first_order(known, bin_width)}
        for index in np.unique(classes).tolist()
        if index > 0
        for values in [voxels[classes == index].astype(np.float64)]
        if (known := known_values(values)).size
    }


def region_changes(
    clean: ArrayLike,
    protected: ArrayLike,
    label: ArrayLike,
    spacing: Sequence[float] | None = None,
    bin_width: float | None = None,
    protected_label: ArrayLike | None = None,
) -> dict[int, dict[str, float]]:
    """Relative change of each of :func:`region_statistics` from the clean scan to the protected one.

    Args:
        clean: physical intensities.
        protected: the same of the protected scan.
        label: class indices.
        spacing: voxel size in mm.
        bin_width: width of a bin, see :func:`region_statistics`.
        protected_label: regions of the protected scan if they were found again, by a model for instance; ``label`` by
            default, which leaves volumes as they are.

    Returns:
        By class and name, the change divided by the magnitude of the clean figure.

        0.01 is one percent. NaN where the clean figure is 0 and the other is not, or the class is gone. Figures that
        can be near 0 for no reason of measurement (skewness; a mean in Hounsfield units) change much in these terms:
        read them beside their values.

    Raises:
        InputError: when :func:`region_statistics` raises it.
    """
    before = region_statistics(clean, label, spacing, bin_width)
    after = region_statistics(protected, label if protected_label is None else protected_label, spacing, bin_width)
    gone = {"volume": 0.0}
    return {
        index: {name: _relative(value, after.get(index, gone).get(name, math.nan)) for name, value in figures.items()}
        for index, figures in before.items()
    }


def _relative(before: float, after: float) -> float:
    if after == before:
        return 0.0
    return (after - before) / abs(before) if before else math.nan


def _first_order(values: NDArray, bin_width: float | None) -> dict[str, float]:
    mean, low, high = values.mean(), values.min(), values.max()
    centered = values - mean
    second, third, fourth = ((centered**power).mean() for power in (2, 3, 4))
    varies = high > low
    p10, p25, p50, p75, p90 = np.percentile(values, [10, 25, 50, 75, 90])
    fractions = _histogram(values, bin_width)
    figures = {
        "mean": mean,
        "standard_deviation": np.sqrt(second),
        "minimum": low,
        "percentile_10": p10,
        "median": p50,
        "percentile_90": p90,
        "maximum": high,
        "interquartile_range": p75 - p25,
        "skewness": third / second**1.5 if varies else 0.0,
        "kurtosis": fourth / second**2 if varies else 0.0,
        "energy": np.square(values).sum(),
        "entropy": abs((fractions * np.log2(fractions)).sum()),  # of a single bin it is 0, not -0
        "uniformity": np.square(fractions).sum(),
    }
    return {name: float(value) for name, value in figures.items()}


def _histogram(values: NDArray, bin_width: float | None) -> NDArray:
    """Fraction of voxels in each bin that holds any."""
    if bin_width is None:
        counts = np.histogram(values, BINS)[0]
    else:
        counts = np.unique(np.floor(values / bin_width), return_counts=True)[1]
    return counts[counts > 0] / values.size  # type: ignore[no-any-return]
