# SPDX-License-Identifier: Apache-2.0
"""Noise beside the labeled voxels: a window far wider than a structure drowns it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from monai_unlearnable.data import LoadedCase, stem
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.arrays import bounding_box

__all__ = ["exceeding_spread", "spread_remarks"]


def exceeding_spread(loaded: LoadedCase, epsilon: float) -> dict[str, str]:
    """The scans of a case whose largest change is more than the standard deviation of the labeled voxels.

    Args:
        loaded: the case; without a label map there are none.
        epsilon: largest change in normalized intensity.

    Returns:
        Both in physical units, by id of the scan, of the channel where they differ most.
    """
    region = None if loaded.label is None else loaded.label[0] > 0
    if region is None or not region.any():
        return {}
    box = (slice(None), *bounding_box(region))
    region, found = region[box[1:]], {}
    for name, scan, window in zip(loaded.case.images, loaded.scans, loaded.windows, strict=True):
        data = scan.quantization.slices(box[-1]).to_data(scan.voxels[box], np.float64)
        channels = [values[~np.isnan(values)] for values in data[:, region]]
        spread = np.array([float(values.std()) if values.size > 1 else np.inf for values in channels])
        change = epsilon * window.width(1)
        worst = int(np.argmax(change - spread))
        if change[worst] > spread[worst]:
            found[stem(name)] = f"a change of {change[worst]:.4g}, a standard deviation of {spread[worst]:.4g}"
    return found


def spread_remarks(found: Mapping[str, str], scans: int) -> list[str]:
    """One remark on what :func:`exceeding_spread` found in all processes, out of a number of scans."""
    everywhere: dict[str, str] = {}
    for own in distributed.gather(dict(found)):
        everywhere.update(own)
    if not everywhere:
        return []
    example = min(everywhere)
    reason = f"the noise may exceed the spread of the labeled voxels in {len(everywhere)} of {scans} scans"
    return [f"{reason}, such as {example}: {everywhere[example]}; give a narrower --window or a smaller --epsilon"]
