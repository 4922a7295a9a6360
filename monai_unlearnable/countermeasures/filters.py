# SPDX-License-Identifier: Apache-2.0
"""Smoothing filters with a small kernel.

The median filter is MONAI's ``MedianSmoothd``. MONAI's ``GaussianSmoothd`` is not used: it takes the outside of an
image for zeros and darkens the border, which for a thin volume is most of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_unlearnable.countermeasures.channels import (
    UnitTransform,
    UnitTransformd,
    at_least,
    one_thread,
    require_simple_itk,
    spatial_axes,
)

__all__ = [
    "BilateralFilter",
    "BilateralFilterD",
    "BilateralFilterDict",
    "BilateralFilterd",
    "BinomialSmooth",
    "BinomialSmoothD",
    "BinomialSmoothDict",
    "BinomialSmoothd",
    "GaussianFilter",
    "GaussianFilterD",
    "GaussianFilterDict",
    "GaussianFilterd",
]

# The image is mirrored about its first and last site (d c b | a b c d | c b a): alternating noise goes on alternating
# beyond the border, so that filters average it away there too.
BORDER = "mirror"

# ITK tabulates the Gaussian of intensities; its own 100 samples are off by a few thousandths.
BILATERAL_SAMPLES = 1000


class GaussianFilter(UnitTransform):
    """Gaussian smoothing of all axes or some of them, of the slice axis alone for instance.

    It leaves ``exp(-2 (pi sigma / period)^2)`` of a wave, and twice that where the period is 2: ``sigma=1`` leaves 1.4%
    of period 2 and 29% of period 4.

    Args:
        sigma: standard deviation in sites; 0 changes nothing. nnU-Net's augmentation blurs with 0.5 to 1.
        axes: spatial axes to smooth; None for all.

    Raises:
        InputError: when ``sigma`` is negative.
    """

    def __init__(self, sigma: float = 1.0, axes: Sequence[int] | int | None = None) -> None:
        at_least("sigma", sigma, 0)
        self.sigma, self.axes = sigma, axes

    def change(self, channel: NDArray) -> NDArray:
        axes = spatial_axes(self.axes, channel.ndim)
        return ndimage.gaussian_filter(channel, self.sigma, axes=axes, mode=BORDER)


class BinomialSmooth(UnitTransform):
    """The average of neighboring sites, with weights (1, 2, 1) / 4 along each axis in turn.

    It is the shortest symmetric filter without response at period 2: noise that alternates from site to site along any
    of ``axes`` is removed exactly, up to the border; ``cos^2(pi / period)`` of a wave is left a pass.

    Args:
        axes: spatial axes to smooth; None for all.
        passes: how often; 0 changes nothing.

    Raises:
        InputError: when ``passes`` is negative.
    """

    def __init__(self, axes: Sequence[int] | int | None = None, passes: int = 1) -> None:
        at_least("passes", passes, 0)
        self.axes, self.passes = axes, passes

    def change(self, channel: NDArray) -> NDArray:
        for axis in spatial_axes(self.axes, channel.ndim) * self.passes:
            channel = ndimage.convolve1d(channel, [0.25, 0.5, 0.25], axis, mode=BORDER)
        return channel


class BilateralFilter(UnitTransform):
    """Gaussian smoothing among sites of similar intensity (Tomasi and Manduchi, ICCV 1998), by SimpleITK.

    Args:
        sigma: standard deviation in sites; 0 changes nothing.
        sigma_intensity: standard deviation of the difference in unit intensity; 0 changes nothing. Noise well below it
            is averaged away, edges well above it stay.

    Raises:
        InputError: when an argument is negative, or SimpleITK is missing.
    """

    def __init__(self, sigma: float = 1.0, sigma_intensity: float = 0.2) -> None:
        at_least("sigma", sigma, 0)
        at_least("sigma_intensity", sigma_intensity, 0)
        require_simple_itk()
        self.sigma, self.sigma_intensity = sigma, sigma_intensity

    def change(self, channel: NDArray) -> NDArray:
        if self.sigma == 0 or self.sigma_intensity == 0:
            return channel
        with one_thread() as sitk:
            bilateral = sitk.BilateralImageFilter()
            bilateral.SetDomainSigma(self.sigma)
            bilateral.SetRangeSigma(self.sigma_intensity)
            bilateral.SetNumberOfRangeGaussianSamples(BILATERAL_SAMPLES)
            image = sitk.GetImageFromArray(np.ascontiguousarray(channel))
            return np.asarray(sitk.GetArrayFromImage(bilateral.Execute(image)))


class GaussianFilterd(UnitTransformd):
    """Dictionary version of :class:`GaussianFilter`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`GaussianFilter`, by name.
    """

    array_transform = GaussianFilter


class BinomialSmoothd(UnitTransformd):
    """Dictionary version of :class:`BinomialSmooth`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`BinomialSmooth`, by name.
    """

    array_transform = BinomialSmooth


class BilateralFilterd(UnitTransformd):
    """Dictionary version of :class:`BilateralFilter`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`BilateralFilter`, by name.
    """

    array_transform = BilateralFilter


GaussianFilterD = GaussianFilterDict = GaussianFilterd
BinomialSmoothD = BinomialSmoothDict = BinomialSmoothd
BilateralFilterD = BilateralFilterDict = BilateralFilterd
