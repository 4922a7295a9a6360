# SPDX-License-Identifier: Apache-2.0
"""The image itself, filtered by a kernel of its class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns
from monai_unlearnable.seeding import seeded

__all__ = ["ClassConvolution"]


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
        epsilon: largest change of a site, in unit intensity.
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

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "blur": self.blur, "size": self.size, "seed": self.seed}

    def kernel(self, kind: int, spatial_dims: int) -> Tensor:
        """The kernel of a class, applied as a correlation; (size, size) or (size, size, size), its sum is 1."""
        shape = [self.size] * spatial_dims
        weights = self.blur * torch.rand(shape, generator=seeded(self.seed, "class", kind))
        weights[tuple(extent // 2 for extent in shape)] = 1
        return weights / weights.sum()

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        spatial_dims = image.ndim - 1
        convolve = F.conv2d if spatial_dims == 2 else F.conv3d
        # Channels are the batch. The border repeats its last site: zeros would darken it.
        padded = F.pad(image[:, None], [self.size // 2] * (2 * spatial_dims), mode="replicate")
        filtered = convolve(padded, self.kernel(kind, spatial_dims)[None, None].to(image))[:, 0]
        return ((filtered - image) / max(self.epsilon, 1e-12)).clamp(-1, 1)
