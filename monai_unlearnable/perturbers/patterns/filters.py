# SPDX-License-Identifier: Apache-2.0
"""Patterns made by filters: autoregressive noise, and a convolution for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns
from monai_unlearnable.utils.seeding import seeded

__all__ = ["AutoregressiveNoise", "ClassConvolution"]

# Bounds on the angle of the poles: slower waves are stripes that readers see, faster ones are all alike.
ANGLES = (0.2 * math.pi, 0.8 * math.pi)


class AutoregressiveNoise(ClassPatterns):
    r"""A process in which each voxel follows from the earlier ones of its 3x3 (3x3x3) neighborhood.

    With the shift :math:`z_a` to the voxel before along axis :math:`a` and angles :math:`\omega_{k,a}` that are drawn
    for each class and channel, the pattern of class k solves

    .. math::
        \prod_a \left(1 - 2 \cos\omega_{k,a}\, z_a + z_a^2\right) P_k = 0

    from a random start of the case. Written out, each voxel is a fixed linear combination of the 8 (26) voxels up to
    two steps before it, so a filter of this size, :meth:`coefficients`, is silent on the noise of its class and on no
    other.

    After Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, NeurIPS 2022. There all coefficients
    are drawn independently, scaled to a sum of 1, and kept if the noise of a 36x36 image does not grow. Our choice is a
    family that neither grows nor fades at any size: its poles lie on the unit circle. Two more properties follow. Its
    solutions are sums of waves, one along each axis, with a phase for every line (the random start), so that no
    recursion has to be run. And the filters are palindromes: a mirrored image obeys the same rule.

    Noise is scaled to ``epsilon`` by its largest value, as any clipping would break the rule. The root mean square is
    about half of epsilon in 2D and 0.4 of it in 3D.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`; for a case alone it is the rule that is drawn, the start always is.
        seed: decides on the rules and on the starts.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        self.seed = seed

    def coefficients(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        """The filters of a class: the correlation of the noise with them is zero.

        Args:
            kind: the class.
            channels: of the image.
            spatial_dims: 2 or 3.

        Returns:
            (C, 3, 3) or (C, 3, 3, 3); the last entry, 1, is that of the voxel itself.
        """
        filters = torch.ones(channels, *[1] * spatial_dims, dtype=torch.float64)
        for axis, angles in enumerate(self._angles(kind, channels, spatial_dims).T):
            taps = torch.stack([torch.ones_like(angles), -2 * torch.cos(angles), torch.ones_like(angles)], dim=1)
            filters = filters * _along(taps, axis, spatial_dims)
        return filters.float()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        angles, start = self._angles(kind, channels, len(shape)), seeded(self.seed, "case", case_id)
        field = torch.zeros(image.shape, dtype=torch.float64)
        for axis, extent in enumerate(shape):
            lines = (channels, *shape[:axis], 1, *shape[axis + 1 :])
            phase = 2 * math.pi * torch.rand(lines, generator=start, dtype=torch.float64)
            field += torch.cos(_along(torch.outer(angles[:, axis], torch.arange(extent)), axis, len(shape)) + phase)
        return field / field.abs().max()

    def _angles(self, kind: int, channels: int, spatial_dims: int) -> Tensor:
        low, high = ANGLES
        draw = torch.rand(channels, spatial_dims, generator=seeded(self.seed, "class", kind), dtype=torch.float64)
        return low + (high - low) * draw


def _along(values: Tensor, axis: int, spatial_dims: int) -> Tensor:
    """Values (C, N) laid along one spatial axis: (C, 1, ..., N, ..., 1)."""
    shape: Sequence[int] = [-1 if other == axis else 1 for other in range(spatial_dims)]
    return values.reshape(len(values), *shape)


class ClassConvolution(ClassPatterns):
    r"""A slight blur by a kernel that is drawn for each class.

    .. math::
        \epsilon P_k = \mathrm{clip}_{[-\epsilon, \epsilon]}(x * w_k - x), \qquad
        w_k = \tilde w_k / \textstyle\sum \tilde w_k

    with :math:`\tilde w_k` 1 in the center and :math:`\mathcal{U}(0, b)` elsewhere. After CUDA (Sadasivan et al.,
    Convolution-based Unlearnable Datasets, CVPR 2023), which has no bound; the clipping is ours, and it hides part of
    the kernel at sharp edges. Public code puts the 1 anywhere in the kernel and divides the filtered image by its
    largest value; here the image stays in place, and intensities are kept by the sum of 1. All channels are filtered by
    the same kernel.

    Flat parts of an image carry no noise.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        blur: upper bound of the entries around the center.
        size: of the kernel along each axis, odd.
        seed: decides on the kernels.

    Raises:
        InputError: when the size is not odd.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        blur: float = 0.3,
        size: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if size < 1 or size % 2 == 0:
            raise InputError("the size of a kernel must be odd", value=size)
        self.blur, self.size, self.seed = blur, size, seed

    def kernel(self, kind: int, spatial_dims: int) -> Tensor:
        """The kernel of a class, applied as a correlation; (size, size) or (size, size, size), its sum is 1."""
        shape = [self.size] * spatial_dims
        weights = self.blur * torch.rand(shape, generator=seeded(self.seed, "class", kind))
        weights[tuple(extent // 2 for extent in shape)] = 1
        return weights / weights.sum()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        spatial_dims = image.ndim - 1
        convolve = F.conv2d if spatial_dims == 2 else F.conv3d
        # Channels are the batch. The border repeats its last voxel: zeros would darken it.
        padded = F.pad(image[:, None], [self.size // 2] * (2 * spatial_dims), mode="replicate")
        filtered = convolve(padded, self.kernel(kind, spatial_dims)[None, None].to(image))[:, 0]
        return ((filtered - image) / max(self.epsilon, 1e-12)).clamp(-1, 1)
