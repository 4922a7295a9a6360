# SPDX-License-Identifier: Apache-2.0
"""Patterns at fixed places of the grid: single voxels, and a symmetric lattice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns, centered, random_signs
from monai_unlearnable.utils.seeding import seeded

__all__ = ["FixedVoxels", "SymmetricLattice"]


class FixedVoxels(ClassPatterns):
    r"""Plus or minus epsilon at voxels that are drawn for each class; the rest of the image is left as it is.

    After OPS (Wu et al., One-Pixel Shortcut, ICLR 2023), our reading: that method has no bound and searches, for each
    class, the pixel and the value that change its images most and most alike. Nothing is searched here, so that the
    voxels depend on no data.

    Voxels are drawn in relative coordinates: images of all sizes carry them at the same places.

    Args:
        epsilon: change of a voxel, in normalized intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        fraction: fraction of the voxels that each class changes, at least one voxel. Voxels are drawn over the whole
            image: a region holds its fraction of them. 0 for a single one, as in the paper.
        seed: decides on voxels and signs.

    Raises:
        InputError: when the fraction is outside [0, 1].
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        fraction: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if not 0 <= fraction <= 1:
            raise InputError("a fraction of voxels must lie in [0, 1]", value=fraction, limit=1.0)
        self.fraction, self.seed = fraction, seed

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        count = max(1, round(self.fraction * shape.numel()))
        places = torch.rand(count, len(shape), generator=seeded(self.seed, "place", kind), dtype=torch.float64)
        signs = random_signs((count, channels), seeded(self.seed, "sign", kind))
        voxels = (places * torch.tensor(shape)).long().T
        noise = torch.zeros(*shape, channels).numpy()
        noise[tuple(voxels.numpy())] = signs.numpy()  # numpy: of voxels drawn twice the last sign is kept, always
        return torch.from_numpy(noise).movedim(-1, 0)


CODES = ("none", "axes", "sign")


class SymmetricLattice(ClassPatterns):
    r"""The product over the axes of one mirror-symmetric sequence of signs, + - - + with the default period of 4.

    .. math::
        P(s) = \prod_{a} \mathrm{sign} \cos\frac{2 \pi (s_a + 1/2)}{p}

    with coordinates :math:`s_a` that are counted from the center of the image, and the sign of 0 positive. Images of
    even size, or padded to one, show the same lattice after mirroring along any axis. A period that is a multiple of
    the strides of a network's first layers keeps in step with them. Our own method: a pattern that an augmentation
    leaves as it is, by construction.

    Nothing is random: there is no seed, and anyone can know the lattice.

    Args:
        epsilon: change of a voxel, in normalized intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        axes: spatial axes of the product; None for all.
        period: of the sequence, in voxels, at least 3.
        code: how classes differ. ``"none"``: they do not, noise tells region from background alone, and nothing about
            classes of whole images. ``"sign"``: classes of even number carry the opposite sign. ``"axes"``: each class
            takes another subset of the axes, class 1 all of them; there are 3 subsets of 2 axes and 7 of 3, further
            classes repeat them.

    Raises:
        InputError: when the period is less than 3, no axis is given, or the code is unknown.
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
        if code not in CODES:
            raise InputError(f"code {code!r} is unknown; known are {', '.join(CODES)}")
        if axes is not None and len(axes) == 0:
            raise InputError("a lattice needs at least one axis")
        self.axes, self.period, self.code = None if axes is None else tuple(axes), period, code

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        dims = image.ndim - 1
        lattice = torch.ones([1] * dims)
        for axis in self._axes(kind, dims):
            lattice = lattice * self._signs(image.shape[1 + axis]).reshape([-1, *[1] * (dims - 1 - axis)])
        flip = self.code == "sign" and kind % 2 == 0
        return (-lattice if flip else lattice).expand(image.shape)

    def _axes(self, kind: int, spatial_dims: int) -> Sequence[int]:
        axes = tuple(range(spatial_dims)) if self.axes is None else self.axes
        if self.code != "axes":
            return axes
        subsets = [subset for size in range(len(axes), 0, -1) for subset in itertools.combinations(axes, size)]
        return subsets[(kind - 1) % len(subsets)]

    def _signs(self, extent: int) -> Tensor:
        phase = centered(extent) % self.period
        mirrored = torch.minimum(phase, self.period - 1 - phase)
        return torch.where(4 * mirrored + 2 <= self.period, 1.0, -1.0)  # the cosine in whole numbers
