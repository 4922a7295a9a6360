# SPDX-License-Identifier: Apache-2.0
"""Intensities: from stored numbers to physical units to normalized intensity, and back.

Three scales are kept apart. *Stored* values are the numbers in the file; *physical* values are
``slope * stored + inter`` (Hounsfield units, say); *normalized* ones map the intensity window of a scan to [0, 1].
Budgets are given in normalized intensity, noise is written in stored steps. Arrays are channel-first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.errors import ScanError, WindowError
from monai_unlearnable.utils.arrays import piecewise
from monai_unlearnable.utils.config import Configurable

__all__ = ["StorageQuantization", "IntensityWindow", "WindowRule", "PercentileWindow", "FixedWindow", "DtypeWindow"]


@dataclass(frozen=True)
class StorageQuantization:
    """The numbers that a file can hold: ``physical = slope * stored + inter`` with ``stored`` of a given dtype.

    Args:
        dtype: numpy dtype string of the stored voxels, byte order included (``"<i2"``).
        slope: physical units a stored step; not 0.
        inter: physical value of a stored 0.
        bits: number of the dtype's bits that hold the number, the lowest ones; 0 if all do.
        padding_low: the lowest stored value that marks a voxel outside the image; such values never change, and no
            other value becomes one.
        padding_high: the highest one; none does where it is less than the lowest.
    """

    dtype: str
    slope: float = 1.0
    inter: float = 0.0
    bits: int = 0
    padding_low: int = 0
    padding_high: int = -1

    @property
    def is_integer(self) -> bool:
        """Whether stored values are integers, so that noise moves in whole steps."""
        return np.dtype(self.dtype).kind in "iu"

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest number that can be stored."""
        if self.bits:
            sign = int(np.dtype(self.dtype).kind == "i")
            return -sign * 2.0 ** (self.bits - 1), 2.0 ** (self.bits - sign) - 1
        info = np.iinfo(self.dtype) if self.is_integer else np.finfo(self.dtype)
        return float(info.min), float(info.max)

    @property
    def has_padding(self) -> bool:
        """Whether some values mark voxels outside the image."""
        return self.padding_low <= self.padding_high

    def is_padding(self, stored: NDArray) -> NDArray:
        """Which stored values mark voxels outside the image."""
        return (stored >= self.padding_low) & (stored <= self.padding_high)

    def to_physical(self, stored: NDArray, dtype: type = np.float32) -> NDArray:
        """Physical values of stored ones, computed in double precision and returned as ``dtype``."""
        if self.slope == 1.0 and self.inter == 0.0:
            return stored.astype(dtype)
        return piecewise(lambda piece: piece * np.float64(self.slope) + self.inter, stored, dtype)

    def to_stored(self, physical: NDArray) -> NDArray:
        """The nearest stored values of physical ones; exact where ``physical`` came from :meth:`to_physical`."""
        stored = (np.asarray(physical, np.float64) - self.inter) / self.slope
        if self.is_integer:
            stored = np.clip(np.rint(stored), *self.bounds)
        return stored.astype(self.dtype)


@dataclass(frozen=True)
class IntensityWindow:
    """An affine map of physical values to normalized intensity, one ``[low, high]`` a channel.

    Raises:
        WindowError: when a channel has no width or a bound is not finite.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        for channel, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not (np.isfinite(low) and np.isfinite(high)):
                raise WindowError(f"the intensity window [{low}, {high}] of channel {channel} is not finite")
            if not high > low:
                reason = f"the intensity window [{low}, {high}] of channel {channel} has no width"
                cause = "the image is constant, or the window rule does not fit it"
                raise WindowError(f"{reason}: {cause}", value=high - low)

    def width(self, ndim: int) -> NDArray:
        """Physical width of each channel, shaped to multiply a channel-first array of ``ndim`` dimensions."""
        return (np.asarray(self.high) - np.asarray(self.low)).reshape(-1, *[1] * (ndim - 1))

    def step(self, quantization: StorageQuantization) -> tuple[float, ...]:
        """Normalized intensity of one storage step in each channel; 0 for float storage, which has no fixed step."""
        if not quantization.is_integer:
            return (0.0,) * len(self.low)
        return tuple(abs(quantization.slope) / (high - low) for low, high in zip(self.low, self.high, strict=True))

    def to_unit(self, physical: NDArray) -> NDArray:
        """Normalized intensity of a channel-first physical array (C, spatial...), clipped to [0, 1], as float32."""
        bounds = np.broadcast_to(np.asarray([self.low, self.high], np.float64), (2, len(physical))).T
        channels = [
            piecewise(partial(_unit, low=low, high=high), channel, np.float32)
            for channel, (low, high) in zip(np.split(physical, len(physical)), bounds, strict=True)
        ]
        return channels[0] if len(channels) == 1 else np.concatenate(channels)


def _unit(values: NDArray, low: np.float64, high: np.float64) -> NDArray:
    return ((values - low) / (high - low)).clip(0, 1)


class WindowRule(Protocol):
    """Derives the :class:`IntensityWindow` of a scan from its physical values (C, spatial...)."""

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow: ...


@dataclass(frozen=True)
class PercentileWindow(Configurable):
    """A window of each scan's own percentiles, a channel at a time: the rule for MR, whose units are arbitrary.

    Args:
        lower: percentile that becomes 0, in [0, 100].
        upper: percentile that becomes 1, in [0, 100].

    Example:
        >>> read_scan("DATASET/a.nii.gz").window(PercentileWindow(lower=1, upper=99))
        IntensityWindow(low=(12.0,), high=(803.0,))
    """

    lower: float = 0.5
    upper: float = 99.5

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow:
        flat = (channel.ravel(order="K") for channel in physical)  # as it lies in memory: any other order takes seconds
        bounds = [np.percentile(channel, [self.lower, self.upper]).tolist() for channel in flat]
        low, high = zip(*bounds, strict=True)
        return IntensityWindow(low, high)


@dataclass(frozen=True)
class FixedWindow(Configurable):
    """The same physical window for every scan: the rule for CT (``low=-160, high=240`` Hounsfield units, say)."""

    low: float
    high: float

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow:
        return _same_window(physical, self.low, self.high)


@dataclass(frozen=True)
class DtypeWindow(Configurable):
    """The whole range of an integer dtype: the rule for 8-bit images, where it is 0 to 255."""

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow:
        if not quantization.is_integer:
            raise ScanError(f"a dtype window needs integer storage, not {quantization.dtype}")
        low, high = sorted(quantization.slope * bound + quantization.inter for bound in quantization.bounds)
        return _same_window(physical, low, high)


def _same_window(physical: NDArray, low: float, high: float) -> IntensityWindow:
    """One window for all channels of an image."""
    if physical.min() == physical.max():
        raise WindowError("the image is constant", value=float(physical.min()))
    return IntensityWindow((low,) * len(physical), (high,) * len(physical))
