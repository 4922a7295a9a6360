# SPDX-License-Identifier: Apache-2.0
"""Random patches of images as nnU-Net places them, cut out with one interpolation at most."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor
from torch.nn import functional

from monai_unlearnable.utils.tensors import affine_matrix, pad_sides, plane_rotation

__all__ = ["RandAffinePatchD", "RandAffinePatchDict", "RandAffinePatchd", "initial_size"]

FOREGROUND = 1 / 3
SMALLEST_SCALE = 0.85  # by which nnU-Net computes how much of the image a turned patch needs
FLAT = 3  # from this ratio of sides on, a volume is turned within its slices only
LONG = 1.5  # from this ratio on, an image is turned by 15 degrees at most


def initial_size(size: Sequence[int], degrees: float, across: int | None = None) -> tuple[int, ...]:
    """The part of an image that nnU-Net v2 cuts out before it turns a patch, which decides where patches lie.

    nnU-Net turns the corner of the patch about each axis, takes the largest extent, and divides it by 0.85. Its axes
    are those of the file in reverse order.

    Args:
        size: spatial size of the patch.
        degrees: largest angle about each axis.
        across: axis of a flat volume that is not turned.
    """
    corner = np.array(size[::-1], float)
    angle = math.radians(min(90.0, degrees))
    planes = [(0, 1)] if len(size) == 2 else [(1, 2), (2, 0), (0, 1)]
    extent = corner.copy()
    for first, second in planes:
        turned = corner.copy()
        turned[first] = corner[first] * math.cos(angle) + corner[second] * math.sin(angle)
        turned[second] = corner[second] * math.cos(angle) - corner[first] * math.sin(angle)
        extent = np.maximum(extent, np.abs(turned))
    initial = (extent / SMALLEST_SCALE).astype(int)[::-1].tolist()
    if across is not None:
        initial[across] = size[across]
    return tuple(initial)


class RandAffinePatchd(Randomizable, MapTransform):
    """Cuts a patch out of an image, sometimes turned and scaled, with one interpolation or with none.

    Patches lie where nnU-Net v2 (2.8.1) puts them. At random, they begin anywhere from the one end of the image to the
    other; images smaller than the patch lie in its middle, one voxel to either side where that is not a whole number.
    Around a foreground voxel, the voxel is the center of the patch, which may reach beyond the far ends of the image,
    and beyond the near ones as far as random ones do.

    Images are interpolated linearly, label maps by the class with the largest linearly interpolated fraction. Voxels
    outside of the image are 0.

    The same from MONAI, a random crop and ``RandAffined`` as one lazy interpolation, takes twice the time (15 and 7 ms,
    for a patch of 40x56x40 out of 2x48x64x48) and agrees to 4e-5 in the image, and in 99% of the labels, which it takes
    from the nearest voxel (``benchmarks/random_affine.py``).

    Args:
        keys: images and label maps (C, spatial...) of one shape.
        size: spatial size of the patch.
        label_key: entry with class indices, interpolated as such.
        foreground: probability that the patch lies around a voxel of a class that is drawn among those present,
            background excluded. nnU-Net takes the last third of each batch.
        prob_rotation: probability of a rotation.
        degrees: largest angle about each axis; by default that of nnU-Net for this size.
        prob_scaling: probability of a zoom, the same along all axes.
        scaling: range of the factor; a larger one makes things smaller.
        allow_missing_keys: whether keys may be absent.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        label_key: str | None = "label",
        foreground: float = FOREGROUND,
        prob_rotation: float = 0.2,
        degrees: float | None = None,
        prob_scaling: float = 0.2,
        scaling: tuple[float, float] = (0.7, 1.4),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.size, self.label_key, self.foreground = tuple(size), label_key, foreground
        self.prob_rotation, self.prob_scaling, self.scaling = prob_rotation, prob_scaling, scaling
        ratio = max(size) / min(size)
        flat = len(size) == 3 and ratio > FLAT
        # the axis across slices, along which a flat volume is neither turned nor scaled
        self.across = self.size.index(min(size)) if flat else None
        common = 180.0 if flat else 30.0 if len(size) == 3 else 15.0 if ratio > LONG else 180.0
        self.degrees = common if degrees is None else degrees
        moves = prob_rotation > 0 or prob_scaling > 0
        self.initial = initial_size(self.size, self.degrees, self.across) if moves else self.size
        self.corner: list[int] = []
        self.affine: tuple[Tensor, Tensor] | None = None

    def randomize(self, data: Any) -> None:
        """Draw corner and matrix; ``data`` is the image's spatial shape and the label map, or None."""
        shape, label = data
        shape, size, initial = np.array(shape), np.array(self.size), np.array(self.initial)
        padding = -(-np.maximum(initial - size, initial - shape) // 2)  # at either end, rounded up
        voxel = None
        if label is not None and self.R.rand() < self.foreground:
            voxel = self._foreground_voxel(label)
        if voxel is None:
            last = shape - initial + padding
            corner = np.array([self.R.randint(*ends) for ends in zip(-padding, last + 1, strict=True)])
        else:
            corner = np.maximum(-padding, voxel - initial // 2)
        self.corner = (corner + initial // 2 - size // 2).tolist()
        self.affine = self._random_matrix()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        present = list(self.key_iterator(d))
        shape = d[present[0]].shape[1:]
        label = d.get(self.label_key) if self.label_key is not None else None
        self.randomize((shape, None if label is None else convert_to_tensor(label)))
        grid = None if self.affine is None else self._grid(shape, *self.affine)
        for key in present:
            image = convert_to_tensor(d[key])
            if grid is None:
                result = self._cut(image)
            elif key == self.label_key:
                result = _resample_classes(image, grid)
            else:
                result = _resample(image, grid)
            d[key] = convert_to_dst_type(result, d[key])[0]
        return d

    def _foreground_voxel(self, label: Tensor) -> list[int] | None:
        classes = _present_classes(label)
        if not classes:
            return None
        voxels = (label[0] == classes[self.R.randint(len(classes))]).nonzero()
        return voxels[self.R.randint(len(voxels))].tolist()

    def _random_matrix(self) -> tuple[Tensor, Tensor] | None:
        """Rotation and scale from offsets in the patch to offsets in the image, or None where they are the same."""
        rotate, scale = self.R.rand() < self.prob_rotation, self.R.rand() < self.prob_scaling
        if not rotate and not scale:
            return None
        dims = len(self.size)
        matrix, factors = torch.eye(dims, dtype=torch.float64)[None], torch.ones(1, dims, dtype=torch.float64)
        # One turn in each plane of axes; in a flat volume only within its slices.
        for plane in combinations(range(dims), 2) if rotate else ():
            if self.across not in plane:
                angle = math.radians(self.R.uniform(-self.degrees, self.degrees))
                matrix = matrix @ plane_rotation(matrix.new_tensor([angle]), *plane, dims)
        if scale:
            factors[:] = self.R.uniform(*self.scaling)
            if self.across is not None:
                factors[:, self.across] = 1
        return matrix, factors

    def _cut(self, image: Tensor) -> Tensor:
        corners = zip(self.corner, self.size, image.shape[1:], strict=True)
        return pad_sides(image, [(-at, at + own - n) for at, own, n in corners]).contiguous()

    def _grid(self, shape: Sequence[int], matrix: Tensor, factors: Tensor) -> Tensor:
        """Sampling positions in the coordinates of ``grid_sample``."""
        center = torch.tensor(self.corner, dtype=torch.float64) + torch.tensor(self.size) / 2
        matrix = affine_matrix(matrix, factors, self.size, shape, center).float()
        return functional.affine_grid(matrix, [1, 1, *self.size], align_corners=False)


def _resample(image: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(image[None].float(), grid, align_corners=False)[0].to(image.dtype)


def _resample_classes(label: Tensor, grid: Tensor) -> Tensor:
    classes = _present_classes(label)
    if not classes:
        return label.new_zeros((label.shape[0], *grid.shape[1:-1]))
    # an argmax over stacked fractions is several times slower; the background has the fraction that classes leave
    result, best, total = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for value in classes:
        fraction = _resample((label == value).float(), grid)
        result = torch.where(fraction > best, value, result)
        best, total = torch.maximum(fraction, best), total + fraction
    return torch.where(best > 1 - total, result, 0).to(label.dtype)


def _present_classes(label: Tensor) -> list[int]:
    """The classes in a label map without the background; faster than ``unique``."""
    return torch.bincount(label.flatten().long())[1:].nonzero().flatten().add(1).tolist()


RandAffinePatchD = RandAffinePatchDict = RandAffinePatchd
