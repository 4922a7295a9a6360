# SPDX-License-Identifier: Apache-2.0
"""How noisy a scan is of its own, from the scan alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["noise_level"]

MAD_OF_NORMAL = 0.6744897501960817  # median of |x| for standard normal x
MAX_SITES = 2**18  # their median is known to 0.2%; looking at more voxels costs time and tells nothing


def noise_level(image: NDArray) -> float:
    """Standard deviation of the white noise in an image, robust to what the image shows.

    The residual is the image filtered by ``[-1, 2, -1]`` along every axis in turn: in 2D the operator of Immerkaer
    (1996, "Fast noise variance estimation"), which planes, ramps and straight edges along an axis leave at 0. Of white
    noise of standard deviation s it makes noise of ``s * 6 ** (axes / 2)``. Its spread is read from the median of its
    magnitude (Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"), which the few sites at
    corners and curved edges do not move.

    Sites with a residual of exactly 0 lie in padding, in masked air or in saturated areas and are left out. Noise that
    neighbors share, as reconstruction and interpolation leave it, is underestimated, often by half on CT and MR: what
    is measured against it then looks larger, not smaller. In an image drawn without noise its edges are taken for it.
    Large images are looked at on a regular grid of at most ``2 ** 18`` sites.

    Args:
        image: (spatial...) of any dtype; axes with fewer than 3 sites are not filtered.

    Returns:
        The standard deviation in units of the image; 0 where nothing varies.
    """
    residual, filtered = image, 0
    step = max(1, math.ceil((image.size / MAX_SITES) ** (1 / max(image.ndim, 1))))
    for axis in reversed(range(image.ndim)):  # slices first: those of NIfTI files are contiguous
        if image.shape[axis] >= 3:
            residual, filtered = _second_difference(residual, axis, step), filtered + 1
    magnitude = np.abs(residual[residual != 0])
    if not filtered or not magnitude.size:
        return 0.0
    return float(np.median(magnitude)) / (MAD_OF_NORMAL * 6 ** (filtered / 2))


def _second_difference(image: NDArray, axis: int, step: int) -> NDArray:
    lead, extent = (slice(None),) * axis, image.shape[axis]
    sites = [(*lead, slice(start, extent - 2 + start, step)) for start in range(3)]
    before, center, after = (image[site] for site in sites)
    difference = center.astype(np.float64)
    difference *= 2
    difference -= before
    difference -= after
    return difference
