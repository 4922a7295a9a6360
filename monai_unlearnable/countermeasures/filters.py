# SPDX-License-Identifier: Apache-2.0
"""Countermeasures that filter: smoothing, denoising, resampling, removal of a bias field.

Percentile clips and gamma are MONAI's ``ScaleIntensityRangePercentilesd`` and ``AdjustContrastd``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from skimage.transform import resize

from monai_unlearnable.countermeasures.base import NormalizedTransform, spatial_axes
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.pipelines import dictionary_transform
from monai_unlearnable.utils.values import check_at_least

__all__ = ["BilateralFilter", "BilateralFilterD", "BilateralFilterDict", "BilateralFilterd"]
__all__ += ["BinomialSmooth", "BinomialSmoothD", "BinomialSmoothDict", "BinomialSmoothd"]
__all__ += ["GaussianFilter", "GaussianFilterD", "GaussianFilterDict", "GaussianFilterd"]
__all__ += ["NonLocalMeans", "NonLocalMeansD", "NonLocalMeansDict", "NonLocalMeansd"]
__all__ += ["RemoveBiasField", "RemoveBiasFieldD", "RemoveBiasFieldDict", "RemoveBiasFieldd"]
__all__ += ["ResampleBack", "ResampleBackD", "ResampleBackDict", "ResampleBackd"]
__all__ += ["TotalVariation", "TotalVariationD", "TotalVariationDict", "TotalVariationd"]

# The image is mirrored about its first and last voxel (d c b | a b c d | c b a): alternating noise goes on alternating
# beyond the border, so that filters average it away there too.
BORDER = "mirror"

# ITK tabulates the Gaussian of intensities; its own 100 samples are off by a few thousandths.
BILATERAL_SAMPLES = 1000

# Cubic B-splines are fitted to at least so many voxels an axis; thinner images are continued by their border.
LEAST_VOXELS = 4

TOP_PERCENTILE = 99.5


def require_simple_itk() -> ModuleType:
    """SimpleITK, if it is installed.

    Raises:
        InputError: naming the extra that installs it.
    """
    try:
        import SimpleITK
    except ImportError:
        # Without a cause, so that whoever reports the root of a chain of errors reports this one.
        raise InputError("SimpleITK is not installed: pip install 'monai_unlearnable[lab]'") from None
    return SimpleITK


@contextmanager
def one_thread() -> Iterator[ModuleType]:
    """SimpleITK, with filters made in the block confined to one thread.

    Partial sums of several threads make results depend on the machine, and a pool of threads does not survive the fork
    of a data loader's worker. Filters inside filters obey the global number only.
    """
    sitk = require_simple_itk()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@dataclass(frozen=True)
class GaussianFilter(NormalizedTransform):
    """Gaussian smoothing of all axes or some of them, of the slice axis alone for instance.

    It leaves ``exp(-2 (pi sigma / period)^2)`` of a wave, and twice that where the period is 2: ``sigma=1`` leaves 1.4%
    of period 2 and 29% of period 4.

    Args:
        sigma: standard deviation in voxels; 0 changes nothing. nnU-Net's augmentation blurs with 0.5 to 1.
        axes: spatial axes to smooth; None for all.

    Raises:
        InputError: when ``sigma`` is negative.
    """

    sigma: float = 1.0
    axes: Sequence[int] | int | None = None

    def __post_init__(self) -> None:
        check_at_least(0, sigma=self.sigma)

    def change(self, channel: NDArray) -> NDArray:
        axes = spatial_axes(self.axes, channel.ndim)
        return ndimage.gaussian_filter(channel, self.sigma, axes=axes, mode=BORDER)


@dataclass(frozen=True)
class BinomialSmooth(NormalizedTransform):
    """The average of neighboring voxels, with weights (1, 2, 1) / 4 along each axis in turn.

    It is the shortest symmetric filter without response at period 2: noise that alternates from voxel to voxel along
    any of ``axes`` is removed exactly, up to the border; ``cos^2(pi / period)`` of a wave is left a pass.

    Args:
        axes: spatial axes to smooth; None for all.
        passes: number of passes; 0 changes nothing.

    Raises:
        InputError: when ``passes`` is negative.
    """

    axes: Sequence[int] | int | None = None
    passes: int = 1

    def __post_init__(self) -> None:
        check_at_least(0, passes=self.passes)

    def change(self, channel: NDArray) -> NDArray:
        for axis in spatial_axes(self.axes, channel.ndim) * self.passes:
            channel = ndimage.convolve1d(channel, [0.25, 0.5, 0.25], axis, mode=BORDER)
        return channel


@dataclass(frozen=True)
class BilateralFilter(NormalizedTransform):
    """Gaussian smoothing among voxels of similar intensity (Tomasi and Manduchi, ICCV 1998), by SimpleITK.

    Args:
        sigma: standard deviation in voxels; 0 changes nothing.
        sigma_intensity: standard deviation of the difference in normalized intensity; 0 changes nothing. Noise well
            below it is averaged away, edges well above it stay.

    Raises:
        InputError: when an argument is negative, or SimpleITK is missing.
    """

    sigma: float = 1.0
    sigma_intensity: float = 0.2

    def __post_init__(self) -> None:
        check_at_least(0, sigma=self.sigma, sigma_intensity=self.sigma_intensity)
        require_simple_itk()

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


@dataclass(frozen=True)
class TotalVariation(NormalizedTransform):
    """Total variation denoising (Chambolle, J. Math. Imaging Vis. 2004): flat regions, sharp edges.

    Args:
        weight: weight of smoothness against likeness to the image; 0 changes nothing. scikit-image's default is 0.1.
        iterations: largest number of iterations.

    Raises:
        InputError: when ``weight`` is negative or there is no iteration.
    """

    weight: float = 0.1
    iterations: int = 200

    def __post_init__(self) -> None:
        check_at_least(0, weight=self.weight)
        check_at_least(1, iterations=self.iterations)

    def change(self, channel: NDArray) -> NDArray:
        if self.weight == 0:
            return channel
        return np.asarray(denoise_tv_chambolle(channel, weight=self.weight, max_num_iter=self.iterations))


@dataclass(frozen=True)
class NonLocalMeans(NormalizedTransform):
    """The average of voxels whose surroundings look alike (Buades et al., CVPR 2005; fast as by Darbon et al., 2008).

    Args:
        h: allowed difference of patches, root mean square in normalized intensity; 0 changes nothing. scikit-image
            advises about 0.8 times the standard deviation of the noise.
        patch_size: voxels along the side of a patch; an odd number. scikit-image's fast variant omits the
            first of them.
        patch_distance: search distance for similar patches, in voxels. Coupé et al. (IEEE TMI 2008) use patches of 3
            and a distance of 5 for MR volumes.

    Raises:
        InputError: when a number is out of range.
    """

    h: float = 0.08
    patch_size: int = 3
    patch_distance: int = 3

    def __post_init__(self) -> None:
        check_at_least(0, h=self.h)
        check_at_least(1, patch_size=self.patch_size, patch_distance=self.patch_distance)

    def change(self, channel: NDArray) -> NDArray:
        if self.h == 0:
            return channel
        denoised = denoise_nl_means(channel, self.patch_size, self.patch_distance, self.h, fast_mode=True)
        return np.asarray(denoised).reshape(channel.shape)  # axes of a single voxel are dropped


@dataclass(frozen=True)
class ResampleBack(NormalizedTransform):
    """Resample to a coarser spacing and back to the same grid.

    Both ways are interpolated by splines without smoothing before, as nnU-Net resamples images (Isensee et al., Nature
    Methods 2021: third order). Voxels have an extent and the outer borders of both grids coincide: with ``factor=2``
    coarse samples lie half-way between fine ones, where a wave of period 2 is zero.

    Args:
        factor: coarsening factor for all axes, or one for each; 1 changes nothing. The low-resolution augmentation of
            nnU-Net goes up to 2. An axis keeps at least one voxel.
        order: order of the spline, 0 (nearest) to 5; 1 is linear, 3 cubic.
        anti_aliasing: smooth before the way to the coarser grid, with scikit-image's ``sigma = (factor - 1) / 2``.

    Raises:
        InputError: when a factor is below 1, or there is no such spline.
    """

    factor: float | Sequence[float] = 2.0
    order: int = 3
    anti_aliasing: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, factor=self.factor)
        if self.order not in range(6):
            raise InputError(f"order must be a whole number from 0 to 5, not {self.order}", value=self.order)

    def change(self, channel: NDArray) -> NDArray:
        factors = np.atleast_1d(np.asarray(self.factor, np.float64))
        if len(factors) not in (1, channel.ndim):
            raise InputError(f"{len(factors)} factors do not fit an image with {channel.ndim} spatial axes")
        coarse = tuple(np.maximum(np.rint(channel.shape / factors), 1).astype(int).tolist())
        if coarse == channel.shape:
            return channel
        options = {"order": self.order, "mode": "edge"}
        small = resize(channel, coarse, anti_aliasing=self.anti_aliasing, **options)
        return np.asarray(resize(small, channel.shape, anti_aliasing=False, **options))


@dataclass(frozen=True)
class RemoveBiasField(NormalizedTransform):
    """N4 bias field correction (Tustison et al., IEEE TMI 2010) by SimpleITK, an ordinary first step for MR.

    The field is estimated on every ``shrink``-th voxel inside Otsu's foreground and divided out at full resolution. The
    99.5 percentile then becomes 1, as when images are loaded: a field is known up to a factor only.

    Args:
        shrink: subsampling of each axis for the estimate, less where an axis is short; 1 uses all voxels. ANTs, the
            reference implementation, takes 4.
        iterations: largest number in each resolution level, from coarse to fine; an empty list changes nothing.

    Raises:
        InputError: when ``shrink`` is below 1, or SimpleITK is missing.
    """

    shrink: int = 4
    iterations: Sequence[int] = (50, 50, 50, 50)

    def __post_init__(self) -> None:
        check_at_least(1, shrink=self.shrink, iterations=self.iterations)
        require_simple_itk()

    def change(self, channel: NDArray) -> NDArray:
        if not self.iterations or np.ptp(channel) == 0:
            return channel
        padding = [(0, max(0, LEAST_VOXELS - extent)) for extent in channel.shape]
        with one_thread() as sitk:
            image = sitk.GetImageFromArray(np.pad(channel, padding, mode="edge"))
            foreground = sitk.OtsuThreshold(image, 0, 1)
            shrink = [max(1, min(int(self.shrink), extent // LEAST_VOXELS)) for extent in image.GetSize()]
            corrector = sitk.N4BiasFieldCorrectionImageFilter()
            corrector.SetMaximumNumberOfIterations([int(number) for number in self.iterations])
            corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(foreground, shrink))
            field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
        corrected = channel / np.exp(field[tuple(map(slice, channel.shape))])
        return corrected / (np.percentile(corrected, TOP_PERCENTILE) or corrected.max())


GaussianFilterd = GaussianFilterD = GaussianFilterDict = dictionary_transform(GaussianFilter)
BinomialSmoothd = BinomialSmoothD = BinomialSmoothDict = dictionary_transform(BinomialSmooth)
BilateralFilterd = BilateralFilterD = BilateralFilterDict = dictionary_transform(BilateralFilter)
TotalVariationd = TotalVariationD = TotalVariationDict = dictionary_transform(TotalVariation)
NonLocalMeansd = NonLocalMeansD = NonLocalMeansDict = dictionary_transform(NonLocalMeans)
ResampleBackd = ResampleBackD = ResampleBackDict = dictionary_transform(ResampleBack)
RemoveBiasFieldd = RemoveBiasFieldD = RemoveBiasFieldDict = dictionary_transform(RemoveBiasField)
