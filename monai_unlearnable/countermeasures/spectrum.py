# SPDX-License-Identifier: Apache-2.0
"""Countermeasures in the spectrum: sharpening with a low pass, and removal of what stands out.

Both use the cosine transform, which is the Fourier transform of the image continued by its mirror image: opposite
borders do not meet, and so leave no streaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils.enums import TransformBackends
from numpy.typing import NDArray
from scipy import fft, ndimage

from monai_unlearnable.countermeasures.base import NormalizedTransform, RandomStep, Step
from monai_unlearnable.countermeasures.filters import BORDER
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.pipelines import dictionary_transform
from monai_unlearnable.utils.values import check_at_least

__all__ = ["ClipSpectrum", "ClipSpectrumD", "ClipSpectrumDict", "ClipSpectrumd"]
__all__ += ["SharpenLowPass", "SharpenLowPassD", "SharpenLowPassDict", "SharpenLowPassd"]
__all__ += ["RandSharpenLowPass", "RandSharpenLowPassD", "RandSharpenLowPassDict", "RandSharpenLowPassd"]

SHELLS = 12  # of equal width in the radius, in which the level of a spectrum is taken


@dataclass(frozen=True)
class ClipSpectrum(NormalizedTransform):
    """Removes frequencies that stand out of an image's spectrum; with ``left`` it brings them down to a level instead.

    By default every coefficient beyond ``inner`` whose magnitude is above the median of its distance is set to zero,
    which is about half of them, those of the scan's own fine detail among them. Less is lost with a larger ``factor``.

    The level is the median magnitude in shells of equal distance from the origin of k-space. It is not allowed to rise
    again with the distance, as no scan's does: at the corners, where only a carrier of period 2 along all axes lives,
    its own shell would hide it. Coefficients above ``factor`` times the level become ``left`` times it; signs stay.

    Noise that repeats, along rows, as a checkerboard or as a lattice, gathers in few coefficients, the fewer the larger
    its region. What is left of 14/255 in the hippocampus: 2% of a checkerboard, 4% of ``umed``'s rows and 4% of a
    lattice of period 4; with a factor of 2 it is 7%, 16% and 20%.

    Args:
        factor: multiple of the level from which on a coefficient stands out; less removes more, 1 about half.
        inner: frequencies up to this one, in cycles a voxel, stay as they are; 0.5 is a period of 2 voxels, and volumes
            have nothing above ``0.5 * sqrt(3)``. Most of the anatomy lies below 0.2.
        left: multiple of the level that is left of what stands out; 0 removes it.

    Raises:
        InputError: when a number is negative, or more is left than ``factor``.
    """

    factor: float = 1.0
    inner: float = 0.2
    left: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(0, factor=self.factor, inner=self.inner, left=self.left)
        if self.left > self.factor:
            raise InputError(f"left is {self.left}, above the factor {self.factor}", value=self.left, limit=self.factor)

    def change(self, channel: NDArray) -> NDArray:
        spectrum = fft.dctn(channel, norm="ortho")
        axes = [np.arange(extent) / (2 * extent) for extent in channel.shape]
        distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
        magnitude = np.abs(spectrum)
        level = _falling_level(magnitude, distance, self.inner)
        outside = (distance > self.inner) & (magnitude > self.factor * level)
        if not outside.any():
            return channel
        spectrum[outside] *= self.left * level[outside] / magnitude[outside]
        return np.asarray(fft.idctn(spectrum, norm="ortho"))


def _falling_level(magnitude: NDArray, distance: NDArray, inner: float) -> NDArray:
    """Median magnitude in shells outside of ``inner``, never above that of a shell further inside, at each distance."""
    borders = np.linspace(inner, max(distance.max(), inner) + 1e-6, SHELLS + 1)
    shell = np.digitize(distance, borders) - 1
    present = [index for index in range(SHELLS) if (shell == index).any()]
    if not present:
        return np.zeros_like(magnitude)
    medians = np.minimum.accumulate([np.median(magnitude[shell == index]) for index in present])
    centers = (borders[1:] + borders[:-1])[present] / 2
    return np.exp(np.interp(distance, centers, np.log(np.maximum(medians, 1e-12))))


@dataclass(frozen=True)
class SharpenLowPass(NormalizedTransform):
    """Sharpens an image and keeps its low frequencies.

    Each voxel becomes ``center`` times itself less ``(center - 1) / n`` times each of its ``n`` neighbors along the
    axes, in the range [0, 1]; of the cosine transform the first ``kept`` of each axis is left.

    Args:
        center: weight of the voxel itself; 1 does not sharpen.
        kept: fraction of the frequencies of each axis that is kept, above 0; 1 filters nothing. With 0.5 the shortest
            period left is 4 voxels.

    Raises:
        InputError: when a number is out of its range.
    """

    center: float = 2.0
    kept: float = 0.3

    def __post_init__(self) -> None:
        _check(self.center, self.kept)

    def change(self, channel: NDArray) -> NDArray:
        dims = channel.ndim
        return _sharpened(channel, self.center, np.full((dims, 2), (self.center - 1) / (2 * dims)), self.kept)


class RandSharpenLowPass(Randomizable, NormalizedTransform):
    """Sharpens an image with a kernel drawn anew each time, and keeps its low frequencies.

    Random sharpening kernels with frequency filtering, from Kim and Sandoval-Segura, Learning from Convolution-based
    Unlearnable Datasets, 2024, arXiv:2411.01742: the weight of the voxel is drawn around ``center``, that of each
    neighbor around ``(center - 1) / n``, with one standard deviation, and the range is clipped; the first ``kept`` of
    each axis of the cosine transform is left. Planes there, volumes with six neighbors here.

    Args:
        center: mean weight of the voxel itself.
        std: standard deviation of all weights; 0.1 in the published code.
        kept: fraction of the frequencies of each axis that is kept; 0.3 in the published code, for 32 pixels.

    Raises:
        InputError: when a number is out of its range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, center: float = 2.0, std: float = 0.1, kept: float = 0.3) -> None:
        _check(center, kept)
        check_at_least(0, std=std)
        self.center, self.std, self.kept = center, std, kept
        self.drawn, self.neighbors = center, np.zeros((0, 2))

    def randomize(self, data: Any) -> None:
        """Draw a kernel; ``data`` is the number of spatial axes."""
        self.drawn = self.R.normal(self.center, self.std)
        self.neighbors = self.R.normal((self.drawn - 1) / (2 * data), self.std, (data, 2))

    def __call__(self, img: Any, randomize: bool = True) -> Any:
        """Change an image (C, spatial...) in [0, 1], all channels with one kernel: the last one, or a new one."""
        if randomize:
            self.randomize(img.ndim - 1)
        return super().__call__(img)

    def change(self, channel: NDArray) -> NDArray:
        return _sharpened(channel, self.drawn, self.neighbors, self.kept)


def _sharpened(channel: NDArray, center: float, neighbors: NDArray, kept: float) -> NDArray:
    """Sharpen with weights of the neighbors (axes, 2), then filter."""
    result = center * channel
    for axis, (before, after) in enumerate(neighbors):
        result -= ndimage.correlate1d(channel, [before, 0, after], axis, mode=BORDER)
    spectrum = fft.dctn(result.clip(0, 1), norm="ortho")
    for axis, extent in enumerate(channel.shape):
        np.moveaxis(spectrum, axis, 0)[max(1, round(kept * extent)) :] = 0
    return np.asarray(fft.idctn(spectrum, norm="ortho"))


def _check(center: float, kept: float) -> None:
    check_at_least(1, center=center)
    if not 0 < kept <= 1:
        raise InputError(f"kept is {kept}; it must be above 0 and at most 1", value=kept, limit=1)


ClipSpectrumd = ClipSpectrumD = ClipSpectrumDict = dictionary_transform(ClipSpectrum)
SharpenLowPassd = SharpenLowPassD = SharpenLowPassDict = dictionary_transform(SharpenLowPass)


class RandSharpenLowPassd(Randomizable, MapTransform, RandomStep):
    """Dictionary version of :class:`RandSharpenLowPass`; images under several keys get one kernel.

    Test images get :class:`SharpenLowPassd`, the mean kernel and the same low pass, so that they are as coarse as what
    the victim learned from; the published code leaves them as they are.

    Args:
        keys: images (C, spatial...) in [0, 1].
        center: mean weight of the voxel itself.
        std: standard deviation of all weights.
        kept: fraction of the frequencies of each axis that is kept.
        allow_missing_keys: whether keys may be absent.

    Raises:
        InputError: when a number is out of its range.
    """

    backend = RandSharpenLowPass.backend

    def __init__(
        self,
        keys: KeysCollection,
        center: float = 2.0,
        std: float = 0.1,
        kept: float = 0.3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = RandSharpenLowPass(center, std, kept)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandSharpenLowPassd:
        """Seed the kernels."""
        self.transform.set_random_state(seed, state)
        return self

    def fixed(self) -> Step:
        """The mean kernel and the same low pass."""
        transform, missing = self.transform, self.allow_missing_keys
        step: Any = SharpenLowPassd(self.keys, transform.center, transform.kept, allow_missing_keys=missing)
        return step

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        d: dict[Any, Any] = dict(data)
        for first, key in enumerate(self.key_iterator(d)):
            d[key] = self.transform(d[key], randomize=not first)
        return d


RandSharpenLowPassD = RandSharpenLowPassDict = RandSharpenLowPassd
