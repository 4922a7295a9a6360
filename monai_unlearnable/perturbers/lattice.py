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
from monai_unlearnable.perturbers.patterns import ClassPatterns, centered
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.values import check_wholes

__all__ = ["LatticeCode", "SymmetricLattice"]


class LatticeCode(StrEnum):
    """How the classes of a :class:`SymmetricLattice` differ."""

    NONE = "none"
    AXES = "axes"
    SIGN = "sign"


class SymmetricLattice(ClassPatterns):
    r"""The product over the axes of one mirror-symmetric sequence of signs, + - - + with the default period of 4.

    .. math::
        P(s) = \prod_{a} \mathrm{sign} \cos\frac{2 \pi (s_a + 1/2)}{p}

    with coordinates :math:`s_a` that are counted from the center of the image, and the sign of 0 positive. Our own
    method: a pattern that an augmentation leaves as it is, by construction. Images of even size, or padded to one, show
    the same lattice after mirroring along any axis. A period that is a multiple of the strides of a network's first
    layers keeps in step with them. Nothing is random: there is no seed, and anyone can know the lattice.

    Args:
        epsilon, support, granularity: see :class:`ClassPatterns`.
        axes: spatial axes of the product, counted from 0, each once; None for all.
        period: period of the sequence in voxels, at least 3.
        code: difference between classes. ``"none"``: none; noise tells region from background alone, and nothing about
            classes of whole images. ``"sign"``: classes of even number carry the opposite sign. ``"axes"``: each class
            takes another subset of the axes, class 1 all of them; after 3 subsets of 2 axes or 7 of 3 they repeat.

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
        period: int = 4,
        code: str = "none",
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if period < 3:
            raise InputError("no symmetric sequence has a period of less than 3 voxels", value=period, limit=3)
        if axes is not None and len(axes) == 0:
            raise InputError("a lattice needs at least one axis")
        if axes is not None:
            check_wholes("axes", axes, 0)
            if len(set(axes)) < len(axes):
                raise InputError(f"a lattice runs along each axis once, not {list(axes)}")
        self.axes, self.period = None if axes is None else tuple(axes), period
        self.code = look_up("code", code, LatticeCode)

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if (last := max(self.axes or (0,))) >= (dims := image.ndim - 2):
            raise InputError(f"the lattice runs along axis {last}; axes are 0 to {dims - 1}", value=last)
        return super().support(image, label)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        dims = image.ndim - 1
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

    def _signs(self, extent: int) -> Tensor:
        phase = centered(extent) % self.period
        mirrored = torch.minimum(phase, self.period - 1 - phase)
        return torch.where(4 * mirrored + 2 <= self.period, 1.0, -1.0)  # the cosine in whole numbers
