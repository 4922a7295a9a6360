# SPDX-License-Identifier: Apache-2.0
"""How images are predicted, and brought back to the voxels of the file from whatever grid a network saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor
from torch.nn import functional

from monai_unlearnable.utils.tensors import pad_sides

__all__ = ["MirroredInferer", "Placement"]

NEAR = 0.01  # voxels by which grids may differ that count as one
PIECE = 2**22  # numbers that are interpolated at once


class MirroredInferer(SlidingWindowInferer):
    """nnU-Net's prediction: windows at half steps with Gaussian weights, each the mean over all its mirrored copies.

    Args:
        size: spatial size of the network's input.
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__(tuple(size), sw_batch_size=4, overlap=0.5, mode="gaussian")

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Logits (B, classes, spatial...) of images (B, C, spatial...)."""
        axes = range(2, inputs.ndim)
        ways = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

        def mean(windows: Tensor, *more: Any, **named: Any) -> Tensor:
            total = torch.zeros(())
            for way in ways:
                total = total + network(windows.flip(way), *more, **named).flip(way)
            return total / len(ways)

        return super().__call__(inputs, mean, *args, **kwargs)


@dataclass(frozen=True)
class Placement:
    """Where the input of a network lies in the image of a file.

    Args:
        matrix: affine map from voxel indices of the file to those of the input, (dims + 1, dims + 1).
        shape: spatial shape of the file's image.

    Example:
        >>> crop = torch.tensor([[1.0, 0, -3], [0, 1, 0], [0, 0, 1]])  # the input begins at row 3
        >>> Placement(crop, (5, 2)).classes(torch.ones(2, 2, 2), lambda logits: logits[0]).sum(1)
        tensor([0., 0., 0., 2., 2.])
    """

    matrix: Tensor
    shape: tuple[int, ...]

    def classes(self, logits: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Classes of the file's voxels (spatial...), background where the network saw nothing.

        Where the input is the image turned by right angles, mirrored, cropped or padded, each voxel gets the class of
        its own; else logits are interpolated linearly.

        Args:
            logits: output of the network (classes, spatial...).
            decode: function from logits to classes (spatial...).
        """
        if (moved := self._moved()) is not None:
            return _move(decode(logits)[None], *moved, self.shape)[0]
        return torch.cat([decode(values).where(known, 0) for values, known in self._pieces(logits)])

    def image(self, image: Tensor) -> Tensor:
        """An input (C, spatial...) on the file's voxels, 0 where it has none."""
        if (moved := self._moved()) is not None:
            return _move(image, *moved, self.shape)
        return torch.cat([values.where(known, 0) for values, known in self._pieces(image)], dim=1)

    def _moved(self) -> tuple[Tensor, Tensor] | None:
        """Whole numbers: for each axis of the input (rows) the direction of each of the file's, and the offset."""
        matrix = self.matrix.double().cpu()[:-1]
        whole = matrix.round()
        farthest = torch.tensor([*self.shape, 1], dtype=torch.float64)
        if ((matrix - whole).abs() @ farthest).max() > NEAR:
            return None
        turn, offset = whole[:, :-1].long(), whole[:, -1].long()
        is_turn = all((turn.abs().sum(axis) == 1).all() for axis in (0, 1))
        return (turn, offset) if is_turn else None

    def _pieces(self, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Interpolated values (C, rows, spatial...) of one slab of the file's voxels after another, and what is known.

        Memory stays small for many classes on large grids.
        """
        dims, matrix = len(self.shape), self.matrix.to(image.device, torch.float32)
        extent = torch.tensor(image.shape[1:], device=image.device)
        rows = max(1, PIECE // (max(len(image), dims) * math.prod(self.shape[1:])))
        for start in range(0, self.shape[0], rows):
            ranges = [torch.arange(n, device=image.device, dtype=torch.float32) for n in self.shape]
            ranges[0] = ranges[0][start : start + rows]
            index = torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1) @ matrix[:dims, :dims].T
            index += matrix[:dims, dims]
            known = ((index >= -0.5 - NEAR) & (index <= extent - 0.5 + NEAR)).all(-1)
            grid = ((2 * index + 1) / extent - 1).flip(-1)[None]
            values = functional.grid_sample(image[None].float(), grid, padding_mode="border", align_corners=False)
            yield values[0], known


def _move(image: Tensor, turn: Tensor, offset: Tensor, shape: Sequence[int]) -> Tensor:
    """Turn, mirror, crop and pad an image (C, spatial...), without interpolation."""
    order = turn.abs().argmax(0)
    image = image.permute(0, *(order + 1).tolist())
    sides = []
    for axis, (source, extent) in enumerate(zip(order.tolist(), shape, strict=True)):
        start = int(offset[source])
        if turn[source, axis] < 0:
            image, start = image.flip(axis + 1), image.shape[axis + 1] - 1 - start
        sides.append((-start, start + extent - image.shape[axis + 1]))
    return pad_sides(image, sides).contiguous()
