# SPDX-License-Identifier: Apache-2.0
"""Coarse patterns that a linear model tells apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns, centered, random_signs
from monai_unlearnable.seeding import seeded

__all__ = ["LinearPatterns"]

GRID = 32  # cells along an axis after which a grid of patches repeats


class LinearPatterns(ClassPatterns):
    r"""A vertex of a hypercube for each class, drawn on a coarse grid of cells.

    .. math::
        P_k(s) = \mathrm{clip}_{[-1, 1]}(v_k + \sigma\, g)_{\mathrm{cell}(s)}, \qquad
        v_k \in \{-1, 1\}^{\mathrm{channels} \times \mathrm{cells}}, \quad g \sim \mathcal{N}(0, 1)

    After LSP (Yu et al., Availability Attacks Create Shortcuts, KDD 2022): normal clusters around vertices of a
    hypercube, one a class, each value repeated over a patch. Public code scales the noise of an image to a length; here
    it is clipped (our choice), so that it uses a bound on each site in full. The deviations in a cluster are about 0.4
    of the vertex there, and correlated.

    Args:
        epsilon: largest change of a site, in unit intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        patch: sites along the side of a cell. Cells are counted from the center of the image: images of different
            sizes that are padded or cropped around it show the same pattern. It repeats after 32 cells.
        cells: number of cells along each axis of an image of any size, in place of ``patch``: images of different sizes
            that are resized to one show the same pattern.
        spread: deviation of the cells of a case from those of its class, as a fraction of ``epsilon``; 0 for the same
            pattern in all cases.
        seed: decides on the patterns.

    Raises:
        InputError: when ``patch`` or ``cells`` is less than 1.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        patch: int = 8,
        cells: int | None = None,
        spread: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if patch < 1 or (cells is not None and cells < 1):
            raise InputError("cells have at least one site, and axes at least one cell", value=(patch, cells), limit=1)
        self.patch, self.cells, self.spread, self.seed = patch, cells, spread, seed

    def arguments(self) -> dict[str, Any]:
        own = {"patch": self.patch, "cells": self.cells, "spread": self.spread, "seed": self.seed}
        return {**super().arguments(), **own}

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        shape = (image.shape[0], *[self.cells or GRID] * (image.ndim - 1))
        grid = random_signs(shape, seeded(self.seed, "class", kind))
        if self.spread:
            grid = grid + self.spread * torch.randn(shape, generator=seeded(self.seed, "case", case_id))
        grid = grid.clamp(-1, 1)
        for axis, extent in enumerate(image.shape[1:], 1):
            grid = grid.index_select(axis, self._cell_of_site(extent))
        return grid

    def _cell_of_site(self, extent: int) -> Tensor:
        if self.cells is None:
            return centered(extent) // self.patch % GRID
        return torch.arange(extent) * self.cells // extent
