# SPDX-License-Identifier: Apache-2.0
"""How far protected scans are from the originals, voxel by voxel and in structure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.utils.arrays import bounding_box, differ, known_values
from monai_unlearnable.utils.distributions import count_numbers

__all__ = ["LOSSLESS_PSNR", "measure_fidelity", "noise_level"]

SSIM_WINDOW = 7
SHORTEST = 3  # voxels along an axis that the window of SSIM spans
COUNTED = 2  # bytes of the integers whose values are counted: sums of squares of a full-size scan take seconds
LOSSLESS_PSNR = 200.0  # JSON has no infinity: the PSNR of an unchanged scan, in dB


def measure_fidelity(
    clean: Scan, protected: Scan, window: IntensityWindow, label: NDArray | None = None, omit_nodata: bool = True
) -> dict[str, float]:
    """Figures of one scan, all from stored voxels and in normalized intensity where they have a scale.

    PSNR is given with three peaks, as in the literature: each is only comparable with its own kind. Voxels that hold no
    data in any channel are omitted, so that what never changes does not flatter the scan.

    Args:
        clean: scan as read from the original file.
        protected: scan as read from the protected file.
        window: intensity window; PSNR and SSIM take its width as the peak.
        label: class indices (1, spatial...), for the figures inside the region.
        omit_nodata: whether voxels without data are omitted; earlier releases counted them.

    Returns:
        Figures by name.

        - ``linf``: largest change, and ``linf_sigma``: the same in standard deviations of the clean scan;
        - ``l0``: fraction of voxels changed;
        - ``nodata``: fraction of voxels omitted, where there are any;
        - ``psnr``: in dB, its peak the width of the window;
        - ``psnr_range``: its peak the range of the clean scan, highest minus lowest voxel;
        - ``psnr_5sigma``: its peak ten standard deviations of the clean scan (plus and minus five);
        - ``noise_ratio``: standard deviation of the change, where there is one, over the :func:`noise_level` of the
          clean scan; of several channels the highest. Absent where the scan has no noise of its own;
        - ``ssim``: its data range the window;
        - ``ssim_roi`` and ``psnr_roi``: inside the region, with a label that has one.

        Ranges and deviations are those of each channel; constant channels are omitted.

    Raises:
        ScanError: when shape or dtype differ.
    """
    if clean.voxels.shape != protected.voxels.shape or clean.voxels.dtype != protected.voxels.dtype:
        raise ScanError("shape or dtype differ from the clean scan's", file=protected.path)
    support = differ(clean.voxels, protected.voxels)
    box, inside, change = _changes(clean, protected, window, support)
    linf = float(np.abs(change).max(initial=0.0))
    nodata = clean.nodata if omit_nodata else np.zeros_like(support)
    known = np.logical_not(nodata.all(axis=0))
    size = int(np.count_nonzero(known))
    channels, unit = _linear(clean, has_gaps=bool(nodata.any()))
    spreads = [_spread(known_values(values), unit) for values in channels]
    sigma = [deviation for _, deviation in spreads]
    widths = window.width(1).tolist()
    widest = max(width / s if s else 0.0 for width, s in zip(widths, sigma, strict=True))
    figures = {
        "linf": linf,
        "linf_sigma": linf * widest,
        "l0": int(np.count_nonzero(support)) / (len(support) * size),
        "psnr": _psnr(float(np.square(change).sum()), len(support) * size),
        **_own_scale(channels, unit, change, support, size, widths, spreads),
    }
    if size < known.size:
        figures["nodata"] = 1 - size / known.size
    similarity = _similarity(clean, protected, window, support)
    figures["ssim"] = similarity.mean(known)
    roi = None if label is None else ((label > 0) & known)[0]
    if roi is not None and roi.any():
        squares = float(np.square(change[np.broadcast_to(roi[box[1:]], inside.shape)[inside]]).sum())
        size_roi = len(support) * int(np.count_nonzero(roi))
        figures |= {"ssim_roi": similarity.mean(roi), "psnr_roi": _psnr(squares, size_roi)}
    return figures


def _changes(
    clean: Scan, protected: Scan, window: IntensityWindow, support: NDArray
) -> tuple[tuple[slice, ...], NDArray, NDArray]:
    """The box around all changed voxels, on which all that depends on them is computed.

    Returns:
        The box; whether each of its voxels changed (C, spatial...); by how much, in normalized intensity, (changed
        voxels,), channels one after the other.
    """
    box = (slice(None), *bounding_box(np.asarray(support.any(axis=0))))
    inside, before, after = support[box], clean.voxels[box], protected.voxels[box]
    slope = np.abs(clean.quantization.slices(box[-1]).slope)
    scale = np.broadcast_to(slope / window.width(support.ndim), inside.shape)[inside]
    return box, inside, (after[inside].astype(np.float64) - before[inside].astype(np.float64)) * scale


def _linear(scan: Scan, has_gaps: bool) -> tuple[NDArray, float]:
    """Voxels (C, spatial...) that measure intensity on one scale, and the physical size of their unit.

    They are the stored ones, unless the scale of storage differs from slice to slice, or some are no data: NaN here.
    """
    slope = scan.quantization.slope
    if has_gaps:
        return scan.data(np.float64), 1.0
    return (scan.physical(np.float64), 1.0) if isinstance(slope, tuple) else (scan.voxels, abs(slope))


def _spread(values: NDArray, unit: float) -> tuple[float, float]:
    """Range and standard deviation of values, times the size of their unit; 0 where there are none."""
    if not values.size:
        return 0.0, 0.0
    if values.dtype.kind in "iu" and values.dtype.itemsize <= COUNTED:
        numbers, counts = count_numbers(values)
        mean = np.average(numbers, weights=counts)
        extent, variance = numbers[-1] - numbers[0], np.average(np.square(numbers - mean), weights=counts)
    else:
        extent, variance = float(values.max()) - float(values.min()), values.var(dtype=np.float64)
    return float(extent) * unit, math.sqrt(variance) * unit


def _own_scale(
    clean: NDArray,
    unit: float,
    change: NDArray,
    support: NDArray,
    size: int,
    widths: list[float],
    spreads: list[tuple[float, float]],
) -> dict[str, float]:
    """The change on scales of the clean scan itself, channel by channel.

    ``clean`` and ``unit`` are those of :func:`_linear`; ``change`` (changed voxels,) is in normalized intensity,
    channels one after the other, where ``support`` (C, spatial...) is true; ``size`` is the number of voxels with data;
    ``widths`` of the window and ``spreads`` of each channel, range and standard deviation, are physical.
    """
    ends = np.cumsum([int(np.count_nonzero(channel)) for channel in support])[:-1]
    errors: dict[str, list[float]] = {"psnr_range": [], "psnr_5sigma": []}  # sums of squares in units of the peak
    ratios = []
    for voxels, part, width, spread in zip(clean, np.split(change, ends), widths, spreads, strict=True):
        extent, deviation = spread
        if not extent:
            continue
        squares = float(np.dot(part, part)) * width**2
        errors["psnr_range"].append(squares / extent**2)
        errors["psnr_5sigma"].append(squares / (10 * deviation) ** 2)
        noise = noise_level(voxels) * unit
        if noise:
            ratios.append(float(part.std()) * width / noise if part.size else 0.0)
    figures = {name: _psnr(math.fsum(terms), len(terms) * size) for name, terms in errors.items() if terms}
    return {**figures, "noise_ratio": max(ratios)} if ratios else figures


@dataclass(frozen=True)
class _Similarity:
    """Structural similarity at every voxel of a box (C, spatial...); it is 1 outside."""

    box: tuple[slice, ...]
    values: NDArray

    def mean(self, voxels: NDArray) -> float:
        """Its mean over some voxels (spatial...) and all channels; at least one voxel."""
        inside = voxels[self.box]
        count = len(self.values) * int(np.count_nonzero(voxels))
        missing = self.values[:, inside]
        return float(1 - (missing.size - missing.sum()) / count)


def _similarity(clean: Scan, protected: Scan, window: IntensityWindow, support: NDArray) -> _Similarity:
    """Structural similarity (Wang et al. 2004, uniform 7-voxel window), as seen through the window.

    Only the box around the changes is computed: elsewhere no change is within reach. The window of SSIM is smaller
    where an axis is shorter; axes of fewer than 3 voxels are not spanned: scans are compared slice by slice there.

    Args:
        clean: original scan.
        protected: scan to compare.
        window: intensities are clipped to it.
        support: mask of the stored voxels that differ.
    """
    spanned = [extent - (extent + 1) % 2 for extent in support.shape[1:] if extent >= SHORTEST]
    changed = np.asarray(support.any(axis=0))
    box = _box_around(changed, SSIM_WINDOW) if spanned and changed.any() else bounding_box(np.zeros_like(changed))
    region = (slice(None), *box)
    similar = np.ones(support[region].shape)
    if not similar.size:
        return _Similarity(box, similar)
    size = min(SSIM_WINDOW, *spanned)
    storage = clean.quantization.slices(box[-1])
    first, second = (window.to_unit(storage.to_physical(s.voxels[region], np.float64)) for s in (clean, protected))
    axes: Iterator[Any] = (range(extent) if extent < SHORTEST else [slice(None)] for extent in first.shape[1:])
    for part in itertools.product(range(len(first)), *axes):
        found = structural_similarity(first[part], second[part], win_size=size, data_range=1.0, full=True)
        similar[part] = found[1]
    return _Similarity(box, similar)


def _box_around(support: NDArray, margin: int) -> tuple[slice, ...]:
    box = []
    for side, extent in zip(bounding_box(support), support.shape, strict=True):
        low, high = max(side.start - margin, 0), min(side.stop + margin, extent)
        if high - low < SSIM_WINDOW:
            low, high = 0, extent
        box.append(slice(low, high))
    return tuple(box)


def _psnr(squares: float, count: int) -> float:
    return LOSSLESS_PSNR if squares == 0 else min(LOSSLESS_PSNR, 10 * math.log10(count / squares))


MAD_OF_NORMAL = 0.6744897501960817  # median of |x| for standard normal x
MAX_VOXELS = 2**18  # their median is known to 0.2%; more voxels cost time and tell nothing


def noise_level(image: NDArray) -> float:
    """Standard deviation of the white noise in an image, robust to its content.

    The residual is the image filtered by ``[-1, 2, -1]`` along every axis in turn: in 2D the operator of Immerkaer
    (1996, "Fast noise variance estimation"), which planes, ramps and straight edges along an axis leave at 0. Of white
    noise of standard deviation s it makes noise of ``s * 6 ** (axes / 2)``. Its spread is read from the median of its
    magnitude (Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"), which the few voxels at
    corners and curved edges do not move.

    Voxels with a residual of exactly 0 lie in padding, in masked air or in saturated areas and are omitted. Noise that
    neighbors share, as reconstruction and interpolation leave it, is underestimated, often by half on CT and MR: what
    is measured against it then looks larger, not smaller. In an image drawn without noise its edges are taken for it.
    Large images are sampled on a regular grid of at most ``2 ** 18`` voxels.

    Args:
        image: (spatial...) of any dtype, NaN where there are no data; axes with fewer than 3 voxels are not filtered.

    Returns:
        The standard deviation in units of the image; 0 where nothing varies.
    """
    residual, filtered = image, 0
    step = max(1, math.ceil((image.size / MAX_VOXELS) ** (1 / max(image.ndim, 1))))
    for axis in reversed(range(image.ndim)):  # slices first: those of NIfTI files are contiguous
        if image.shape[axis] >= 3:
            residual, filtered = _second_difference(residual, axis, step), filtered + 1
    magnitude = np.abs(residual)
    magnitude = magnitude[magnitude > 0]  # NaN is not
    if not filtered or not magnitude.size:
        return 0.0
    return float(np.median(magnitude)) / (MAD_OF_NORMAL * 6 ** (filtered / 2))


def _second_difference(image: NDArray, axis: int, step: int) -> NDArray:
    lead, extent = (slice(None),) * axis, image.shape[axis]
    voxels = [(*lead, slice(start, extent - 2 + start, step)) for start in range(3)]
    before, center, after = (image[voxel] for voxel in voxels)
    difference = center.astype(np.float64)
    difference *= 2
    difference -= before
    difference -= after
    return difference
