# SPDX-License-Identifier: Apache-2.0
"""Images that the tests of countermeasures share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_image(shape: tuple[int, ...], seed: int = 0) -> NDArray:
    """Smooth anatomy with an edge and a little noise; each channel spans [0, 1]. ``shape`` is (C, spatial...)."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, extent) if extent > 1 else np.zeros(1) for extent in shape[1:]])
    distance = np.sqrt(sum(axis**2 for axis in grid)).swapaxes(0, 1)
    channels = []
    for channel in range(shape[0]):
        values = (distance < 0.7) * (0.5 + 0.1 * channel) + 0.2 * distance + 0.05 * rng.standard_normal(shape[1:])
        channels.append((values - values.min()) / (np.ptp(values) or 1))
    return np.stack(channels).astype(np.float32)


def alternating(shape: tuple[int, ...], axis: int) -> NDArray:
    """+1 and -1 in turn along a spatial axis of an image of ``shape`` (C, spatial...)."""
    signs = 1 - 2 * (np.arange(shape[1 + axis]) % 2)
    return np.broadcast_to(np.moveaxis(signs[(...,) + (None,) * (len(shape) - 1)], 0, 1 + axis), shape).astype(
        np.float32
    )


def wave(voxels: int, period: float) -> NDArray:
    """A cosine wave (voxels, 3) along the first axis that mirroring about the first voxel continues."""
    return np.repeat(np.cos(2 * np.pi * np.arange(voxels) / period)[:, None], 3, axis=1)
