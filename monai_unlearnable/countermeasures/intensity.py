# SPDX-License-Identifier: Apache-2.0
"""Changes of intensity alone: export with few levels, and the removal of a bias field.

Percentile clips and gamma are MONAI's ``ScaleIntensityRangePercentilesd`` and ``AdjustContrastd``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.countermeasures.base import (
    NormalizedTransform,
    at_least,
    one_thread,
    require_simple_itk,
)
from monai_unlearnable.utils.dictionaries import dictionary_transform

__all__ = [
    "Quantize",
    "QuantizeD",
    "QuantizeDict",
    "Quantized",
    "RemoveBiasField",
    "RemoveBiasFieldD",
    "RemoveBiasFieldDict",
    "RemoveBiasFieldd",
]

# Cubic B-splines are fitted to at least so many voxels an axis; thinner images are continued by their border.
LEAST_VOXELS = 4

TOP_PERCENTILE = 99.5


class Quantize(NormalizedTransform):
    """Round to equally spaced levels: 256 of them are an 8-bit export.

    Args:
        levels: how many, the first at 0 and the last at 1.

    Raises:
        InputError: when there are fewer than two.
    """

    def __init__(self, levels: int = 256) -> None:
        at_least("levels", levels, 2)
        self.levels = levels

    def change(self, channel: NDArray) -> NDArray:
        return np.rint(channel * (self.levels - 1)) / (self.levels - 1)


class RemoveBiasField(NormalizedTransform):
    """N4 bias field correction (Tustison et al., IEEE TMI 2010) by SimpleITK, an ordinary first step for MR.

    The field is estimated on every ``shrink``-th voxel inside Otsu's foreground and divided out at full resolution. The
    99.5 percentile then becomes 1, as when images are loaded: a field is known up to a factor only.

    Args:
        shrink: subsampling of each axis for the estimate, less where an axis is short; 1 uses all voxels. ANTs, the
            reference implementation, takes 4.
        iterations: at most so many in each resolution level, from coarse to fine; an empty list changes nothing.

    Raises:
        InputError: when ``shrink`` is below 1, or SimpleITK is missing.
    """

    def __init__(self, shrink: int = 4, iterations: Sequence[int] = (50, 50, 50, 50)) -> None:
        at_least("shrink", shrink, 1)
        at_least("iterations", iterations, 1)
        require_simple_itk()
        self.shrink, self.iterations = int(shrink), [int(number) for number in iterations]

    def change(self, channel: NDArray) -> NDArray:
        if not self.iterations or np.ptp(channel) == 0:
            return channel
        padding = [(0, max(0, LEAST_VOXELS - extent)) for extent in channel.shape]
        field = self._log_field(np.pad(channel, padding, mode="edge"))
        corrected = channel / np.exp(field[tuple(map(slice, channel.shape))])
        return corrected / (np.percentile(corrected, TOP_PERCENTILE) or corrected.max())

    def _log_field(self, values: NDArray) -> NDArray:
        with one_thread() as sitk:
            image = sitk.GetImageFromArray(values)
            foreground = sitk.OtsuThreshold(image, 0, 1)
            shrink = [max(1, min(self.shrink, extent // LEAST_VOXELS)) for extent in image.GetSize()]
            corrector = sitk.N4BiasFieldCorrectionImageFilter()
            corrector.SetMaximumNumberOfIterations(self.iterations)
            corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(foreground, shrink))
            return np.asarray(sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)))


Quantized = QuantizeD = QuantizeDict = dictionary_transform(Quantize)
RemoveBiasFieldd = RemoveBiasFieldD = RemoveBiasFieldDict = dictionary_transform(RemoveBiasField)
