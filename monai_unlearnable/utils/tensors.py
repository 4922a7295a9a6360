# SPDX-License-Identifier: Apache-2.0
"""Images as tensors: padding, affine sampling, and networks in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["affine_matrix", "averaged", "evaluating", "fit_extent", "is_map"]
__all__ += ["pad_sides", "pad_to_multiple", "plane_rotation"]


def is_map(label: Tensor) -> bool:
    """Whether labels are of voxels, (B, 1, spatial...), rather than of images, (B,), or of their tasks, (B, T)."""
    return label.ndim > 2


def averaged(image: Tensor, size: Sequence[int]) -> Tensor:
    """An image (B, C, spatial...) as averages over the cells of a grid of this size."""
    pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool3d
    return pool(image, tuple(size))  # type: ignore[arg-type]


def pad_sides(image: Tensor, sides: Sequence[tuple[int, int]], mode: str = "constant") -> Tensor:
    """Pad the last axes of an image, or crop them where a number is negative.

    Args:
        image: image (..., spatial...); with any ``mode`` but ``"constant"`` (C, spatial...).
        sides: voxels before and after each axis.
        mode: padding mode of ``torch.nn.functional.pad``; zeros by default.
    """
    amounts = [amount for side in reversed(sides) for amount in side]
    if not any(amounts):
        return image
    if mode == "constant":
        return functional.pad(image, amounts)
    return functional.pad(image[None], amounts, mode=mode)[0]


def fit_extent(image: Tensor, extent: Sequence[int]) -> Tensor:
    """Crop an image (C, spatial...) at its far ends, or pad it there with zeros."""
    return pad_sides(image, [(0, wanted - voxels) for wanted, voxels in zip(extent, image.shape[1:], strict=True)])


def pad_to_multiple(image: Tensor, multiple: int, least: Sequence[int] | None = None) -> Tensor:
    """Repeat the border of an image (C, spatial...) at the far ends until its size is a multiple, and large enough."""
    shape = image.shape[1:]
    wanted = [max(pair) for pair in zip(shape, least or shape, strict=True)]
    missing = [-(-larger // multiple) * multiple - voxels for larger, voxels in zip(wanted, shape, strict=True)]
    return pad_sides(image, [(0, voxels) for voxels in missing], "replicate")


def plane_rotation(angle: Tensor, first: int, second: int, dims: int) -> Tensor:
    """Rotations in the plane of two axes, (B, dims, dims), by angles in radians, (B,)."""
    matrix = torch.eye(dims, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = torch.cos(angle)
    matrix[:, first, second], matrix[:, second, first] = -torch.sin(angle), torch.sin(angle)
    return matrix


def affine_matrix(
    matrix: Tensor, scale: Tensor, size: Sequence[int], shape: Sequence[int], center: Tensor | None = None
) -> Tensor:
    """The matrix for torch's ``affine_grid`` (without aligned corners) that cuts out a patch, (B, dims, dims + 1).

    Args:
        matrix: map of scaled offsets from the center of the patch to offsets in the image, (B, dims, dims), in voxels.
        scale: factor of offsets in the patch, (B, dims) or (B, 1); more than 1 makes things smaller.
        size: spatial size of the patch.
        shape: spatial shape of the image.
        center: center of the patch in the image, in voxels from its corner, (dims,); by default that of the image.
    """
    extent, full = torch.tensor(list(size)), torch.tensor(list(shape))
    linear = matrix * (scale[:, None] * extent / full[:, None])
    shift = torch.zeros_like(full) if center is None else 2 * center / full - 1
    shift = shift.to(linear).expand(len(linear), -1)[..., None]
    return torch.cat([linear, shift], dim=2)[:, :, [*reversed(range(len(full))), -1]].flip(1)  # the last axis first


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode, each part of it put back into its mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
