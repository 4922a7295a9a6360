# SPDX-License-Identifier: Apache-2.0
"""Noise compared with the spread of the labeled voxels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monai_unlearnable.data.cases import LoadedCase
from monai_unlearnable.data.formats import stem
from monai_unlearnable.utils.arrays import bounding_box, file_order

__all__ = ["exceeding_spread", "spread_remark"]


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


def spread_remark(found: Mapping[str, str], scans: int) -> str:
    """One remark on what :func:`exceeding_spread` found in all cases, out of a number of scans."""
    example = min(found)
    reason = f"the noise may exceed the spread of the labeled voxels in {len(found)} of {scans} scans"
    return f"{reason}, such as {example}: {found[example]}; give a narrower --window or a smaller --epsilon"
