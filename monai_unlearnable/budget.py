# SPDX-License-Identifier: Apache-2.0
"""The budget of a perturbation, and the one place where noise meets an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.errors import BudgetError, NoiseMismatchError
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.utils.arrays import bounding_box, differ, file_order

__all__ = ["Budget", "VoxelChange", "apply_change", "apply_noise", "changed_fraction", "undo_change"]

# Networks compute in float32: a value within this fraction of a storage step of the next step has reached it.
STEP_TOLERANCE = 1e-4
FRACTION_TOLERANCE = 1e-12  # relative, of rounding: 0.29 of 100 voxels are 29

ArrayT = TypeVar("ArrayT")


@dataclass(frozen=True)
class Budget:
    """How far a voxel may move (an L-infinity ball around each case), and how many voxels may move (an L0 bound).

    Args:
        epsilon: largest change of a voxel as a fraction of the intensity window, in [0, 1]; 8/255 is a common choice.
        norm: ``"linf"``, the only norm of the ball so far.
        fraction: largest fraction of the voxels of a scan that may change, in (0, 1]. A voxel is a position that holds
            data in any channel; it counts as changed when any channel changes.

    Example:
        >>> Budget(epsilon=8 / 255, fraction=0.1).limit(voxels=1000)
        100
    """

    epsilon: float
    norm: str = "linf"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.norm != "linf":
            raise BudgetError(f"norm {self.norm!r} is not supported; use 'linf'")
        if not 0 <= self.epsilon <= 1:
            raise BudgetError("the epsilon must lie in [0, 1] of the intensity window", value=self.epsilon, limit=1.0)
        if not 0 < self.fraction <= 1:
            raise BudgetError("the fraction must lie in (0, 1] of the voxels", value=self.fraction, limit=1.0)

    @property
    def lowest_psnr(self) -> float:
        """The PSNR in dB of a scan that uses the whole budget, against its window; no scan has less."""
        return math.inf if self.epsilon == 0 else -10 * math.log10(self.epsilon**2 * self.fraction)

    def project(self, noise: ArrayT) -> ArrayT:
        """The nearest noise within the L-infinity ball; the fraction of voxels is left to :func:`apply_noise`.

        Args:
            noise: numpy array or torch tensor in normalized intensity.
        """
        return noise.clip(-self.epsilon, self.epsilon)  # type: ignore[attr-defined, no-any-return]

    def limit(self, voxels: int) -> int:
        """The largest number of voxels that may change, out of ``voxels``."""
        return int(self.fraction * voxels * (1 + FRACTION_TOLERANCE))

    def check(self, linf: float, *, fraction: float | None = None, step: float = 0.0, case: str | None = None) -> None:
        """Raise :class:`BudgetError` where what was measured is outside the budget.

        Args:
            linf: L-infinity norm of the change, in normalized intensity.
            fraction: fraction of voxels changed (:func:`changed_fraction`), if it was measured.
            step: a storage step in normalized intensity, for the tolerance of ``linf``.
            case: name of the case, for the error.
        """
        if not linf <= self.epsilon + STEP_TOLERANCE * step + 1e-9:
            reason = f"the noise reaches {linf:.6g} of the window, the budget is {self.epsilon:.6g}"
            raise BudgetError(reason, case=case, value=linf, limit=self.epsilon)
        if fraction is not None and not fraction <= self.fraction * (1 + 2 * FRACTION_TOLERANCE):
            reason = f"the noise changes {fraction:.6g} of the voxels, the budget is {self.fraction:.6g}"
            raise BudgetError(reason, case=case, value=fraction, limit=self.fraction)

    def check_storage(self, step: float, voxels: int | None = None, *, case: str | None = None) -> None:
        """Raise :class:`BudgetError` where nothing could change.

        Args:
            step: a storage step in normalized intensity; the epsilon may not be less.
            voxels: number of voxels of the scan, of which the fraction must allow one or more; None to skip this check.
            case: name of the case, for the error.
        """
        if voxels is not None and voxels > 0 and not self.limit(voxels):
            reason = f"a fraction of {self.fraction:.4g} is less than one of {voxels} voxels: nothing would change"
            raise BudgetError(reason, case=case, value=self.fraction, limit=1 / voxels)
        if 0 < self.epsilon < step * (1 - STEP_TOLERANCE):
            reason = f"a budget of {self.epsilon:.4g} of the intensity window is less than one storage step"
            advice = "nothing would change. Raise the budget, or use a wider window"
            raise BudgetError(f"{reason} ({step:.4g}): {advice}", case=case, value=self.epsilon, limit=step)


@dataclass(frozen=True)
class VoxelChange:
    """What protection did to the stored voxels, and all that is needed to undo it exactly.

    Args:
        corner: first index of the box of all changes, in :func:`~monai_unlearnable.utils.arrays.file_order`.
        steps: the box, zero where nothing changed: the stored steps added (integer storage), or the XOR of the bit
            patterns before and after (float storage, where addition does not invert).
    """

    corner: tuple[int, ...]
    steps: NDArray

    @property
    def box(self) -> tuple[slice, ...]:
        """The box as an index into voxels in :func:`~monai_unlearnable.utils.arrays.file_order`."""
        return tuple(slice(low, low + size) for low, size in zip(self.corner, self.steps.shape, strict=True))


def changed_fraction(before: NDArray, after: NDArray, count: int | None = None) -> float:
    """The fraction of voxels at which any channel differs.

    Args:
        before: voxels (C, spatial...).
        after: voxels in the same shape.
        count: number of voxels that it is a fraction of; all by default.
    """
    changed = differ(before, after).any(axis=0)
    return int(np.count_nonzero(changed)) / (count or changed.size)


def apply_noise(
    stored: NDArray,
    noise: NDArray,
    *,
    budget: Budget,
    window: IntensityWindow,
    quantization: StorageQuantization,
    mask: NDArray | None = None,
    case: str | None = None,
) -> tuple[NDArray, VoxelChange]:
    """Add noise to stored voxels: mask, project, convert to stored steps, truncate toward zero, add.

    The noise is added to the original voxels, never to a windowed copy; where it would leave the numbers that can be
    stored, or reach a value that is no data, it shrinks. Voxels without data never change.
    Where more voxels move than the budget allows, those of largest stored change do, of equal ones the first in C
    order; the others stay the original.

    Args:
        stored: original voxels (C, spatial...) in their storage dtype.
        noise: perturbation in normalized intensity, same shape or broadcastable over channels.
        budget: budget of the noise after masking; its fraction of voxels is kept after rounding to storage.
        window: map of physical units to normalized intensity.
        quantization: map of stored numbers to physical units.
        mask: support in [0, 1], multiplied with the noise.
        case: name of the case, for the error.

    Returns:
        The protected voxels, of the dtype of ``stored``, and the change that :func:`undo_change` reverts.

    Raises:
        BudgetError: when the noise is not finite, or the budget is positive but below one storage step of all channels,
            or its fraction of voxels below one voxel.
    """
    count = quantization.count_data(stored) if budget.fraction < 1 else stored[0].size
    budget.check_storage(window.finest_step(quantization), count, case=case)
    unit = np.broadcast_to(noise if mask is None else noise * mask, stored.shape)
    if not np.isfinite(unit).all():
        raise BudgetError("the noise holds NaN or infinite values", case=case)
    # The rest costs what the box of the noise does, not the volume.
    box = (slice(0, len(stored)), *bounding_box((unit != 0).any(axis=0)))
    original, width, quantization = stored[box], window.width(stored.ndim), quantization.slices(box[-1])
    # In double precision: the epsilon rounded to float32 may be larger than the epsilon.
    steps = budget.project(unit[box].astype(np.float64)) * (width / np.asarray(quantization.slope))
    support = (steps != 0) & ~quantization.is_nodata(original)
    before = original[support]
    after = _shifted(before, steps[support], quantization, support)
    moved = after != before
    support[support] = moved
    whole = stored.copy(order="K")
    protected = whole[box]
    protected[support] = after[moved]
    if budget.fraction < 1:
        size = _stored_change(original, protected, support) * np.abs(quantization.slope) / width
        excess = _excess(size, support, budget.limit(count))
        np.copyto(protected, original, where=excess)
        support &= ~excess
    return whole, _recorded(original, protected, support, box)


def apply_change(stored: NDArray, change: VoxelChange) -> NDArray:
    """Stored voxels with a change made; bit-exact repetition of the :func:`apply_noise` that returned it."""
    return _changed(stored, change, 1)


def undo_change(protected: NDArray, change: VoxelChange) -> NDArray:
    """The original voxels, bit for bit."""
    return _changed(protected, change, -1)


def _shifted(before: NDArray, steps: NDArray, quantization: StorageQuantization, support: NDArray) -> NDArray:
    """Stored numbers after steps, of the voxels of a support (C, spatial...), one after the other."""
    low, high = (_each(bound, support) for bound in quantization.bounds)
    whole = np.trunc(steps + np.copysign(STEP_TOLERANCE, steps)) if quantization.is_integer else steps
    after = np.clip(before.astype(np.float64) + whole, low, high).astype(before.dtype)
    if not quantization.is_integer:
        overshot = np.abs(after.astype(np.float64) - before) > np.abs(steps)  # by rounding
        after[overshot] = np.nextafter(after[overshot], before[overshot])
    gaps = [(_each(first, support), _each(last, support)) for first, last in quantization.gaps]
    for first, last in gaps * len(gaps):  # what is beside one may lie in another
        inside = (after >= first) & (after <= last)
        if inside.any():
            after[inside] = _beside(before, first, last, quantization.is_integer)[inside]
    return after


def _stored_change(before: NDArray, after: NDArray, support: NDArray) -> NDArray:
    """How far each voxel moved, in stored numbers; 0 outside of the support."""
    change = np.zeros(support.shape)
    change[support] = np.abs(np.subtract(after[support], before[support], dtype=np.float64))
    return change


def _recorded(before: NDArray, after: NDArray, support: NDArray, box: tuple[slice, ...]) -> VoxelChange:
    """The change of a part of a volume, of which nothing but the support changed.

    Args:
        before: original voxels of the part, (C, spatial...).
        after: protected voxels.
        support: whether a voxel changed.
        box: where the part lies in the volume.
    """
    own = bounding_box(file_order(support))
    outer = (box[0], *reversed(box[1:]))
    corner = tuple(low.start + side.start if side.stop else 0 for low, side in zip(outer, own, strict=True))
    return VoxelChange(corner, _difference(file_order(before)[own], file_order(after)[own]))


def _beside(before: NDArray, first: Any, last: Any, is_integer: bool) -> NDArray:
    """The last number before a gap of no data from ``first`` to ``last``, on the way from ``before``."""
    if is_integer:
        return np.where(before < first, first - 1, last + 1)
    return np.nextafter(np.where(before < first, first, last).astype(before.dtype), before)


def _each(number: Any, support: NDArray) -> Any:
    """A number of all slices, or of each one, for each voxel of a support."""
    return number if np.ndim(number) == 0 else np.broadcast_to(number, support.shape)[support]


def _excess(change: NDArray, support: NDArray, limit: int) -> NDArray:
    """The changed voxels (spatial...) that are not among the ``limit`` ones of largest change over channels."""
    excess = np.zeros(support.shape[1:], bool)
    voxels = np.flatnonzero(support.any(axis=0))
    surplus = len(voxels) - limit
    if surplus > 0:
        size = change.max(axis=0).ravel()[voxels]
        bound = np.partition(size, surplus - 1)[surplus - 1]  # far cheaper than to sort all
        below, equal = voxels[size < bound], voxels[size == bound]
        excess.flat[below] = True
        excess.flat[equal[len(equal) - (surplus - len(below)) :]] = True
    return excess


def _bits(values: NDArray) -> NDArray:
    return np.ascontiguousarray(values).view(f"{values.dtype.str[0]}u{values.dtype.itemsize}")


def _difference(before: NDArray, after: NDArray) -> NDArray:
    if before.dtype.kind == "f":
        return _bits(before) ^ _bits(after)
    difference = after.astype(np.int64) - before.astype(np.int64)
    largest = int(np.abs(difference).max(initial=0))
    return difference.astype(np.min_scalar_type(-largest - 1))


def _changed(voxels: NDArray, change: VoxelChange, sign: int) -> NDArray:
    result = voxels.copy(order="K")
    view = file_order(result)[change.box]
    if view.shape != change.steps.shape:
        raise NoiseMismatchError("the change reaches beyond the voxels", value=change.steps.shape, limit=view.shape)
    if result.dtype.kind == "f":  # XOR returns the byte order of the machine, the file may have the other
        view[...] = (_bits(view) ^ change.steps).astype(_bits(view).dtype).view(result.dtype)
    else:  # sums wrap at the range of the dtype, and back again
        (np.add if sign > 0 else np.subtract)(view, change.steps.astype(view.dtype, copy=False), out=view)
    return result
