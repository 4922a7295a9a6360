# SPDX-License-Identifier: Apache-2.0
"""Noise compared with the spread of the labeled voxels, and intensity windows with what scans hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monai_unlearnable.data.cases import LoadedCase
from monai_unlearnable.data.formats import stem
from monai_unlearnable.utils.arrays import bounding_box, file_order

__all__ = ["blank_remark", "blank_scans", "exceeding_spread", "spread_remark"]


def exceeding_spread(loaded: LoadedCase, epsilon: float) -> dict[str, str]:
    """The scans of a case whose largest change is more than the standard deviation of the labeled voxels.

    A window that is far wider than a structure gives noise that drowns it.

    Args:
        loaded: the case; without a label map there are none.
        epsilon: largest change in normalized intensity.

    Returns:
        Both in physical units, by id of the scan, of the channel where they differ most.
    """
    region = None if loaded.label is None else loaded.label > 0
    if region is None or not region.any():
        return {}
    box = (slice(None), *bounding_box(region[0]))
    region, found = file_order(region[box])[0], {}
    for name, scan, window in zip(loaded.case.images, loaded.scans, loaded.windows, strict=True):
        data = scan.quantization.slices(box[-1]).to_data(scan.voxels[box], np.float64)
        channels = [values[~np.isnan(values)] for values in file_order(data)[:, region]]
        spread = np.array([float(values.std()) if values.size > 1 else np.inf for values in channels])
        change = epsilon * window.width(1)
        worst = int(np.argmax(change - spread))
        if change[worst] > spread[worst]:
            found[stem(name)] = f"a change of {change[worst]:.4g}, a standard deviation of {spread[worst]:.4g}"
    return found


def blank_scans(loaded: LoadedCase) -> dict[str, str]:
    """The scans of a case all of whose voxels lie on one side of the intensity window, so that networks see nothing.

    Values that are no data count here as well, since to know them takes longer than all the rest.

    Returns:
        The lowest and the highest physical value, by id of the scan.
    """
    found = {}
    for name, scan, window in zip(loaded.case.images, loaded.scans, loaded.windows, strict=True):
        within = tuple(range(1, scan.voxels.ndim - 1))  # slices may have a storage each
        ends = [end.reduce(scan.voxels, within, keepdims=True) for end in (np.fmin, np.fmax)]
        values = np.stack([scan.quantization.to_physical(end, np.float64) for end in ends])
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if high <= min(window.low) or low >= max(window.high):
            found[stem(name)] = f"from {low:.6g} to {high:.6g}"
    return found


def blank_remark(found: Mapping[str, str], scans: int) -> str:
    """One remark on what :func:`blank_scans` found in all cases, out of a number of scans."""
    example = min(found)
    reason = f"the window holds no voxel of {len(found)} of {scans} scans, such as {example}, which is {found[example]}"
    return f"{reason}; networks see nothing in them: give another --window"


def spread_remark(found: Mapping[str, str], scans: int) -> str:
    """One remark on what :func:`exceeding_spread` found in all cases, out of a number of scans."""
    example = min(found)
    reason = f"the noise may exceed the spread of the labeled voxels in {len(found)} of {scans} scans"
    return f"{reason}, such as {example}: {found[example]}; give a narrower --window or a smaller --epsilon"
