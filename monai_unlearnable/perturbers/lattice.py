# SPDX-License-Identifier: Apache-2.0
"""A lattice of signs that mirroring leaves as it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.utils.enums import StrEnum
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns import ClassPatterns, centered, random_signs
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_wholes

__all__ = ["LatticeCode", "SymmetricLattice"]


class LatticeCode(StrEnum):
    """How the classes of a :class:`SymmetricLattice` differ."""

    NONE = "none"
    AXES = "axes"
    SIGN = "sign"
    KEYED = "keyed"


class SymmetricLattice(ClassPatterns):
    r"""The product over the axes of one mirror-symmetric sequence of signs, + - - + with the default period of 4.

    .. math::
        P(s) = \prod_{a} \mathrm{sign} \cos\frac{2 \pi (s_a + 1/2)}{p}

    with coordinates :math:`s_a` that are counted from the center of the image, and the sign of 0 positive. Our own
    method: a pattern that an augmentation leaves as it is, by construction. Images of even size, or padded to one, show
    the same lattice after mirroring along any axis. A period that is a multiple of the strides of a network's first
    layers keeps in step with them. Nothing is random, unless signs are drawn: anyone can know the lattice.

    The keyed form is a mark. It has as many codes as there are signs of a mirror-symmetric tile: with the period of 8,
    2 to the power of 64 for each class in 3D, and of 16 in 2D.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        axes: spatial axes along which the lattice changes, counted from 0, each once; None for all.
        period: period of the sequence in voxels, at least 3; by default 4, and 8 where signs are drawn.
        code: difference between classes. ``"none"``: none; noise tells region from background alone, and nothing about
            classes of whole images. ``"sign"``: classes of even number carry the opposite sign. ``"axes"``: each class
            takes another subset of the axes, class 1 all of them; after 3 subsets of 2 axes or 7 of 3 they repeat.
            ``"keyed"``: each class has its own tile of signs in place of the product, drawn from the seed.
        seed: random seed of the signs that are drawn; the others have none.

    Raises:
        InputError: when the period is less than 3, no axis is given, one is given twice or negative, or the code is
            unknown.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        axes: Sequence[int] | None = None,
        period: int | None = None,
        code: str = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity, seed)
        self.code = look_up("code", code, LatticeCode)
        if period is None:
            period = 8 if self.is_drawn else 4
        if period < 3:
            raise InputError("no symmetric sequence has a period of less than 3 voxels", value=period, limit=3)
        if axes is not None and len(axes) == 0:
            raise InputError("a lattice needs at least one axis")
        if axes is not None:
            check_wholes("axes", axes, 0)
            if len(set(axes)) < len(axes):
                raise InputError(f"a lattice runs along each axis once, not {list(axes)}")
        self.axes, self.period = None if axes is None else tuple(axes), period

    @property
    def is_drawn(self) -> bool:  # type: ignore[override]
        return self.code == LatticeCode.KEYED

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if (last := max(self.axes or (0,))) >= (dims := image.ndim - 2):
            raise InputError(f"the lattice runs along axis {last}; axes are 0 to {dims - 1}", value=last)
        return super().support(image, label)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        dims = image.ndim - 1
        if self.is_drawn:
            return self._tiled(kind, image.shape[1:]).expand(image.shape)
        lattice = torch.ones([1] * dims)
        for axis in self._axes(kind, dims):
            lattice = lattice * self._signs(image.shape[1 + axis]).reshape([-1, *[1] * (dims - 1 - axis)])
        flip = self.code == LatticeCode.SIGN and kind % 2 == 0
        return (-lattice if flip else lattice).expand(image.shape)

    def _axes(self, kind: int, spatial_dims: int) -> Sequence[int]:
        axes = tuple(range(spatial_dims)) if self.axes is None else self.axes
        if self.code != LatticeCode.AXES:
            return axes
        subsets = [subset for size in range(len(axes), 0, -1) for subset in itertools.combinations(axes, size)]
        return subsets[(kind - 1) % len(subsets)]

    def _tiled(self, kind: int, shape: Sequence[int]) -> Tensor:
        """The tile of a class over a whole image."""
        axes = range(len(shape)) if self.axes is None else self.axes
        half = -(-self.period // 2)  # the other half mirrors it
        tile = random_signs(
            [half if axis in axes else 1 for axis in range(len(shape))], seeded(self.seed, "tile", kind)
        )
        for axis in axes:
            tile = tile.index_select(axis, self._phase(shape[axis]))
        return tile

    def _signs(self, extent: int) -> Tensor:
        return torch.where(4 * self._phase(extent) + 2 <= self.period, 1.0, -1.0)  # the cosine in whole numbers

    def _phase(self, extent: int) -> Tensor:
        """The distance of each voxel along an axis from the end of its period that is nearer."""
        phase = centered(extent) % self.period
        return torch.minimum(phase, self.period - 1 - phase)
