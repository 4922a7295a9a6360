# SPDX-License-Identifier: Apache-2.0
"""Intensities: from stored numbers to physical units to normalized intensity, and back.

Three scales are kept apart. *Stored* values are the numbers in the file; *physical* values are
``slope * stored + inter`` (Hounsfield units, say); *normalized* ones map the intensity window of a scan to [0, 1].
Budgets are given in normalized intensity, noise is written in stored steps. Arrays are channel-first.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.errors import ScanError, WindowError
from monai_unlearnable.utils.arrays import piecewise
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.distributions import Distribution, count_numbers

__all__ = ["IntensityWindow", "StorageQuantization"]
__all__ += ["AutoWindow", "ChannelRule", "DtypeWindow", "FixedWindow", "PercentileWindow", "WindowRule"]


Number = Any  # a number of all slices, or an array of one a slice, which broadcasts on the last axis


@dataclass(frozen=True)
class StorageQuantization:
    """The numbers that a file can hold: ``physical = slope * stored + inter`` with ``stored`` of a given dtype.

    All but the dtype may differ from slice to slice, as in PET series: then it is a tuple of one number a slice, along
    the last spatial axis. A tuple of equal numbers becomes this number.

    Some stored values are no data, whatever the file: NaN, infinite ones, and those from the largest float32 on in
    float storage; -32768 in all 16 bits of signed integers; the value whose physical one is -3024 (which scanners write
    around the field of view of CT); and the range that the file itself reserves for padding. Such a voxel never changes
    and no other becomes one, so that protected files have the same ones.

    Args:
        dtype: numpy dtype string of the stored voxels, byte order included (``"<i2"``).
        slope: physical units a stored step; not 0.
        inter: physical value of a stored 0.
        bits: number of the dtype's bits that hold the number, the lowest ones; 0 if all do.
        padding_low: the lowest stored value that marks a voxel outside the image, by the word of the file.
        padding_high: the highest one; none does where it is less than the lowest.

    Raises:
        ScanError: when slope or intercept are not finite, or the slope is 0.

    Example:
        >>> StorageQuantization("<i2", slope=(0.5, 0.7, 0.6)).slices(slice(1, 2))
        StorageQuantization(dtype='<i2', slope=0.7, ...)
    """

    dtype: str
    slope: float | tuple[float, ...] = 1.0
    inter: float | tuple[float, ...] = 0.0
    bits: int | tuple[int, ...] = 0
    padding_low: int | tuple[int, ...] = 0
    padding_high: int | tuple[int, ...] = -1

    def __post_init__(self) -> None:
        for name in BY_SLICE:
            value = getattr(self, name)
            if isinstance(value, (tuple, list)):  # JSON gives lists
                object.__setattr__(self, name, value[0] if len(set(value)) == 1 else tuple(value))
        if not (np.isfinite(self.slope).all() and np.isfinite(self.inter).all() and np.all(self.slope)):
            raise ScanError("the slope of storage is 0, or slope or intercept are not finite")

    @property
    def num_slices(self) -> int | None:
        """Number of slices that the numbers are given for; None where they are those of all slices.

        Raises:
            ValueError: when the tuples differ in length.
        """
        lengths = {len(value) for name in BY_SLICE if isinstance(value := getattr(self, name), tuple)}
        if len(lengths) > 1:
            raise ValueError(f"the storage is given for {sorted(lengths)} slices")
        return next(iter(lengths), None)

    def slices(self, which: slice) -> StorageQuantization:
        """The storage of some slices, of which there is at least one."""
        own: dict[str, Any] = {n: value[which] for n in BY_SLICE if isinstance(value := getattr(self, n), tuple)}
        return replace(self, **own) if own else self

    @property
    def is_integer(self) -> bool:
        """Whether stored values are integers, so that noise moves in whole steps."""
        return np.dtype(self.dtype).kind in "iu"

    @property
    def is_narrow(self) -> bool:
        """Whether there are so few stored values, at most 2**16, that each is worth computing once."""
        return self.is_integer and np.dtype(self.dtype).itemsize <= 2 and self.num_slices is None

    @property
    def bounds(self) -> tuple[Number, Number]:
        """The lowest and the highest number that a voxel may become; arrays of one a slice where the bits differ."""
        dtype = np.dtype(self.dtype)
        if not self.is_integer:
            with np.errstate(over="ignore"):  # float16 ends before
                largest = float(np.nextafter(dtype.type(FLOAT_LIMIT), dtype.type(0)))
            return -largest, largest
        sign, whole = int(dtype.kind == "i"), 8 * dtype.itemsize
        bits = _number(tuple(own or whole for own in self.bits) if isinstance(self.bits, tuple) else self.bits or whole)
        return -sign * 2.0 ** (bits - 1), 2.0 ** (bits - sign) - 1

    @property
    def steps(self) -> tuple[float, float]:
        """Size of a storage step in physical units, of the slice with the smallest and of that with the largest."""
        slope = np.abs(self.slope)
        return float(slope.min()), float(slope.max())

    @property
    def gaps(self) -> list[tuple[Number, Number]]:
        """The lowest and the highest number of each range of stored ones that are no data; empty where low > high.

        Numbers of float storage that are not within :attr:`bounds` are none either.
        """
        dtype, gaps = np.dtype(self.dtype), [(_number(self.padding_low), _number(self.padding_high))]
        if dtype.kind == "i" and dtype.itemsize == 2:
            gaps.append((INT16_LOWEST, INT16_LOWEST))
        with np.errstate(all="ignore"):  # a broken header may hold any slope
            outside = (OUTSIDE_VIEW - np.asarray(self.inter, np.float64)) / self.slope
            nearest = np.rint(outside) if self.is_integer else outside.astype(dtype).astype(np.float64)
            low, high = self.bounds
            exists = (nearest >= low) & (nearest <= high) & (np.abs(nearest - outside) < WHOLE_TOLERANCE)
        if exists.any():
            number = nearest if nearest.ndim else int(nearest) if self.is_integer else float(nearest)
            gaps.append((number, np.where(exists, number, -np.inf) if nearest.ndim else number))
        return [(low, high) for low, high in gaps if np.any(low <= high)]

    def is_nodata(self, stored: NDArray) -> NDArray:
        """Which stored values (C, spatial...) are no data, by their value alone."""
        gaps = self.gaps
        if self.is_integer and not gaps:
            return np.zeros_like(stored, bool)
        return piecewise(_within, stored, bool, *itertools.chain(*gaps))

    def count_data(self, stored: NDArray) -> int:
        """Number of voxels with data in any channel of stored values (C, spatial...)."""
        if self.is_integer and not self.gaps:
            return stored[0].size
        return stored[0].size - int(np.count_nonzero(self.is_nodata(stored).all(axis=0)))

    def to_physical(self, stored: NDArray, dtype: type = np.float32) -> NDArray:
        """Physical values of stored ones, no data included, computed in double precision and returned as ``dtype``."""
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are no data
            if self.slope == 1.0 and self.inter == 0.0:
                return stored.astype(dtype)
            slope, inter = (np.asarray(number, np.float64)[()] for number in (self.slope, self.inter))
            return piecewise(lambda piece, slope, inter: piece * slope + inter, stored, dtype, slope, inter)

    def to_data(self, stored: NDArray, dtype: type = np.float32) -> NDArray:
        """Physical values of stored ones (C, spatial...), NaN where they are no data."""
        physical, nodata = self.to_physical(stored, dtype), self.is_nodata(stored)
        if nodata.any():
            np.copyto(physical, np.nan, where=nodata)
        return physical

    def distributions(self, stored: NDArray) -> list[Distribution]:
        """The physical values of each channel of stored ones (C, spatial...) that are data, without rounding."""
        if self.is_narrow:
            return [self._counted(channel) for channel in stored]
        is_physical = not self.is_integer and self.slope == 1.0 and self.inter == 0.0
        data = self.to_data(stored, np.dtype(self.dtype).type if is_physical else np.float64)
        return [Distribution.of(channel) for channel in data]

    def _counted(self, channel: NDArray) -> Distribution:
        numbers, counts = count_numbers(channel)
        known = ~self.is_nodata(numbers)
        values, counts = self.to_physical(numbers[known], np.float64), counts[known]
        order = slice(None, None, -1 if self.slope < 0 else 1)  # type: ignore[operator]
        return Distribution(values[order], counts[order])

    def to_stored(self, physical: NDArray) -> NDArray:
        """The nearest stored values of physical ones; exact where ``physical`` came from :meth:`to_physical`."""
        if not self.is_integer and self.slope == 1.0 and self.inter == 0.0:
            return np.asarray(physical).astype(self.dtype)  # NaN keeps its bits
        stored = (np.asarray(physical, np.float64) - _number(self.inter)) / _number(self.slope)
        if self.is_integer:
            stored = np.clip(np.rint(stored), *self.bounds)
        return stored.astype(self.dtype)


BY_SLICE = ("slope", "inter", "bits", "padding_low", "padding_high")
FLOAT_LIMIT = float(np.finfo(np.float32).max)
INT16_LOWEST = -(2**15)
OUTSIDE_VIEW = -3024.0  # physical
WHOLE_TOLERANCE = 1e-3  # of a step: slopes are rounded


def _within(stored: NDArray, *ends: Number) -> NDArray:
    """Which stored values are beyond the numbers of float32, or between two of the ends."""
    floats = stored.dtype.kind == "f"
    with np.errstate(over="ignore"):  # float16 ends before
        nodata = ~(np.abs(stored) < FLOAT_LIMIT) if floats else np.zeros(stored.shape, bool)
    for low, high in zip(ends[::2], ends[1::2], strict=True):
        nodata |= stored == low if low is high else (stored >= low) & (stored <= high)
    return nodata


def _number(value: float | tuple[float, ...]) -> Number:
    return np.asarray(value) if isinstance(value, tuple) else value


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
                reason = f"the intensity window [{low}, {high}] of channel {channel} is not finite"
                raise WindowError(f"{reason}; give another --window")
            if not high > low:
                reason = (
                    f"the intensity window [{low}, {high}] of channel {channel} has no width; give another --window"
                )
                raise WindowError(reason, value=high - low)

    def width(self, ndim: int) -> NDArray:
        """Physical width of each channel, shaped to multiply a channel-first array of ``ndim`` dimensions."""
        return (np.asarray(self.high) - np.asarray(self.low)).reshape(-1, *[1] * (ndim - 1))

    def step(self, quantization: StorageQuantization) -> tuple[float, ...]:
        """Normalized intensity of one storage step in each channel, the largest of all slices.

        It is 0 for float storage, which has no fixed step.
        """
        largest = quantization.steps[1] if quantization.is_integer else 0.0
        return tuple(largest / (high - low) for low, high in zip(self.low, self.high, strict=True))

    def finest_step(self, quantization: StorageQuantization) -> float:
        """The smallest storage step of any channel and slice in normalized intensity; 0 for float storage."""
        smallest = quantization.steps[0] if quantization.is_integer else 0.0
        return min(smallest / (high - low) for low, high in zip(self.low, self.high, strict=True))

    def to_unit(self, physical: NDArray) -> NDArray:
        """Normalized intensity of a channel-first physical array (C, spatial...), clipped to [0, 1], as float32.

        NaN, which is no data, becomes 0.
        """
        bounds = np.broadcast_to(np.asarray([self.low, self.high], np.float64), (2, len(physical))).T
        channels = [
            piecewise(partial(_unit, low=low, high=high), channel, np.float32)
            for channel, (low, high) in zip(np.split(physical, len(physical)), bounds, strict=True)
        ]
        return channels[0] if len(channels) == 1 else np.concatenate(channels)


def _unit(values: NDArray, low: np.float64, high: np.float64) -> NDArray:
    return np.fmin(np.fmax((values - low) / (high - low), 0), 1)


class WindowRule(Protocol):
    """Derives the :class:`IntensityWindow` of a scan from physical values (C, spatial...); NaN means no data."""

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow: ...


class ChannelRule(Configurable, ABC):
    """Base of rules that depend on nothing but how often values occur in each channel, which is far faster to know."""

    def __call__(self, physical: NDArray, quantization: StorageQuantization) -> IntensityWindow:
        return self.of_channels([Distribution.of(channel) for channel in physical], quantization)

    @abstractmethod
    def of_channels(self, channels: Sequence[Distribution], quantization: StorageQuantization) -> IntensityWindow:
        """The window of a scan whose channels have these physical values."""


@dataclass(frozen=True)
class PercentileWindow(ChannelRule):
    """A window of each scan's own percentiles, a channel at a time: the rule for MR, whose units are arbitrary.

    Args:
        lower: percentile that becomes 0, in [0, 100].
        upper: percentile that becomes 1, in [0, 100].

    Raises:
        WindowError: when the percentiles are out of range, or the lower one is not below the upper one.

    Example:
        >>> read_scan("DATASET/a.nii.gz").window(PercentileWindow(lower=1, upper=99))
        IntensityWindow(low=(12.0,), high=(803.0,))
    """

    lower: float = 0.5
    upper: float = 99.5

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            reason = f"percentiles of a window rise within 0 and 100, and these are {self.lower:g} and {self.upper:g}"
            raise WindowError(reason)

    def of_channels(self, channels: Sequence[Distribution], quantization: StorageQuantization) -> IntensityWindow:
        bounds = [self._bounds(values, channel) for channel, values in enumerate(channels)]
        return IntensityWindow(*zip(*bounds, strict=True))

    def _bounds(self, values: Distribution, channel: int) -> tuple[float, float]:
        low, high = _percentiles(values, channel, self.lower, self.upper)
        if low == high:
            reason = f"nearly all voxels of channel {channel} are {low:g}, as are percentiles {self.lower:g}"
            lowest, highest = values.ends
            advice = f"give a --window, such as a FixedWindow from {lowest:g} to {highest:g}"
            raise WindowError(f"{reason} and {self.upper:g}; {advice}", value=low)
        return low, high


def _percentiles(values: Distribution, channel: int, lower: float, upper: float) -> tuple[float, float]:
    if not values.size:
        raise WindowError(f"channel {channel} of the image holds no data")
    lowest, highest = values.ends
    if lowest == highest:
        raise WindowError(f"channel {channel} of the image is constant: {lowest:g} everywhere", value=lowest)
    low, high = values.percentiles(lower, upper)
    return low, high


@dataclass(frozen=True)
class FixedWindow(ChannelRule):
    """The same physical window for every scan: the rule for CT (``low=-160, high=240`` Hounsfield units, say).

    Args:
        low: physical value that becomes 0.
        high: physical value that becomes 1.

    Raises:
        WindowError: when the window has no width, or a bound is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        IntensityWindow((self.low,), (self.high,))  # else each scan would be told as the one that is wrong

    def of_channels(self, channels: Sequence[Distribution], quantization: StorageQuantization) -> IntensityWindow:
        return _same_window(channels, self.low, self.high)


@dataclass(frozen=True)
class DtypeWindow(ChannelRule):
    """The whole range of an integer dtype: the rule for 8-bit images, where it is 0 to 255."""

    def of_channels(self, channels: Sequence[Distribution], quantization: StorageQuantization) -> IntensityWindow:
        if not quantization.is_integer:
            reason = f"the range of the data type is no window for floats ({quantization.dtype})"
            raise ScanError(f"{reason}; give another --window, such as an AutoWindow")
        slope, inter = np.asarray(quantization.slope), np.asarray(quantization.inter)
        ends = np.concatenate([np.ravel(slope * bound + inter) for bound in quantization.bounds])
        return _same_window(channels, float(ends.min()), float(ends.max()))


@dataclass(frozen=True)
class AutoWindow(ChannelRule):
    """The default, which fits each scan: the range of the dtype for unsigned 8-bit storage, else percentiles.

    These are the windows of :class:`DtypeWindow` and :class:`PercentileWindow`: each scan of a set of mixed types gets
    the one that it would have in a set of its own type. A channel that is nearly all of one value, so that percentiles
    are equal, gets its whole range.
    """

    def of_channels(self, channels: Sequence[Distribution], quantization: StorageQuantization) -> IntensityWindow:
        if np.dtype(quantization.dtype) == np.uint8:
            return DtypeWindow().of_channels(channels, quantization)
        bounds = [self._bounds(values, channel) for channel, values in enumerate(channels)]
        return IntensityWindow(*zip(*bounds, strict=True))

    def _bounds(self, values: Distribution, channel: int) -> tuple[float, float]:
        usual = PercentileWindow()
        low, high = _percentiles(values, channel, usual.lower, usual.upper)
        return (low, high) if low < high else values.ends


def _same_window(channels: Sequence[Distribution], low: float, high: float) -> IntensityWindow:
    """One window for all channels of an image."""
    ends = [end for values in channels if values.size for end in values.ends]
    if not ends:
        raise WindowError("the image holds no data")
    if min(ends) == max(ends):
        raise WindowError(f"the image is constant: {ends[0]:g} everywhere", value=ends[0])
    return IntensityWindow((low,) * len(channels), (high,) * len(channels))
