# SPDX-License-Identifier: Apache-2.0
"""Images made larger or smaller at their far ends, so that the grid still starts at the first site."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["fit_extent", "pad_to_multiple"]


def fit_extent(image: Tensor, extent: Sequence[int]) -> Tensor:
    """Crop an image (C, spatial...) at its far ends, or pad it there with zeros."""
    change = [wanted - sites for wanted, sites in zip(extent, image.shape[1:], strict=True)]
    return pad(image, _far(change)) if any(change) else image


def pad_to_multiple(image: Tensor, multiple: int, least: Sequence[int] | None = None) -> Tensor:
    """Repeat the border of an image (C, spatial...) at the far ends until its size is a multiple, and large enough."""
    least = least or [1] * (image.ndim - 1)
    wanted = [-(-max(sites, lower) // multiple) * multiple for sites, lower in zip(image.shape[1:], least, strict=True)]
    change = [larger - sites for larger, sites in zip(wanted, image.shape[1:], strict=True)]
    return pad(image[None], _far(change), mode="replicate")[0] if any(change) else image


def _far(change: Sequence[int]) -> list[int]:
    """Padding of the far ends, last axis first, as torch wants it."""
    return list(itertools.chain.from_iterable((0, sites) for sites in reversed(change)))
