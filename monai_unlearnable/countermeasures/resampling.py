# SPDX-License-Identifier: Apache-2.0
"""Resampling to a coarser grid and back, as when a scan passes through another spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from monai_unlearnable.countermeasures.channels import UnitTransform, UnitTransformd, at_least
from monai_unlearnable.errors import InputError

__all__ = ["ResampleBack", "ResampleBackD", "ResampleBackDict", "ResampleBackd"]


class ResampleBack(UnitTransform):
    """Resample to a coarser spacing and back to the same grid.

    Both ways are interpolated by splines without smoothing before, as nnU-Net resamples images (Isensee et al., Nature
    Methods 2021: third order). Sites have an extent and the outer borders of both grids coincide: with ``factor=2``
    coarse samples lie half-way between fine ones, where a wave of period 2 is zero.

    Args:
        factor: how many times coarser, for all axes or for each; 1 changes nothing. The low-resolution augmentation of
            nnU-Net goes up to 2. An axis keeps at least one site.
        order: of the spline, 0 (nearest) to 5; 1 is linear, 3 cubic.
        anti_aliasing: smooth before the way to the coarser grid, with scikit-image's ``sigma = (factor - 1) / 2``.

    Raises:
        InputError: when a factor is below 1, or there is no such spline.
    """

    def __init__(self, factor: float | Sequence[float] = 2.0, order: int = 3, anti_aliasing: bool = False) -> None:
        at_least("factor", factor, 1)
        if order not in range(6):
            raise InputError(f"order must be a whole number from 0 to 5, not {order}", value=order)
        self.factor, self.order, self.anti_aliasing = factor, order, anti_aliasing

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


class ResampleBackd(UnitTransformd):
    """Dictionary version of :class:`ResampleBack`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`ResampleBack`, by name.
    """

    array_transform = ResampleBack


ResampleBackD = ResampleBackDict = ResampleBackd
