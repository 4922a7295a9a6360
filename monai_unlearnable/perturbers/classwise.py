# SPDX-License-Identifier: Apache-2.0
"""Noise that cases share: one pattern for each class, or one for all, found by gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, MaskProvider
from monai_unlearnable.perturbers.base import Perturber, check_classes
from monai_unlearnable.perturbers.patterns import Granularity, centered
from monai_unlearnable.utils.enums import look_up

__all__ = ["ClasswiseNoise"]

GRANULARITIES = (Granularity.CLASS, Granularity.UNIVERSAL)


class ClasswiseNoise(Perturber):
    """A learned pattern for each class (Huang et al., ICLR 2021, class-wise noise) or one for all cases.

    Classes of whole images: the pattern covers the image, resized to it, so that it stays the same when an
    exploiter resizes images. Class maps: the pattern is repeated over the image, in step with its center, and each
    voxel carries the pattern of its class.

    Args:
        in_channels: image channels.
        num_classes: number of classes, background included.
        size: spatial size of the pattern.
        epsilon: largest change of a voxel, in normalized intensity.
        granularity: ``"class"`` or ``"universal"``.
        support: mask of where noise is allowed.

    Raises:
        InputError: when the granularity is unknown, or the pattern has no voxels.
    """

    windowed = False
    tile: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        size: Sequence[int],
        epsilon: float = 8 / 255,
        granularity: str = "class",
        support: MaskProvider | None = None,
    ) -> None:
        super().__init__()
        if min(size, default=0) < 1:
            raise InputError(f"a pattern of {list(size)} voxels has none", limit=1)
        self.in_channels, self.num_classes, self.size = in_channels, num_classes, tuple(size)
        self.epsilon, self.granularity = epsilon, look_up("granularity", granularity, GRANULARITIES)
        self.allowed = Everywhere() if support is None else support
        self._depend_on(self.allowed)
        count = num_classes if granularity == Granularity.CLASS else 1
        self.tile = nn.Parameter(torch.zeros(count, in_channels, *self.size))

    needs_label = True  # type: ignore[assignment]

    def reset_parameters(self) -> None:
        """Start from faint random patterns."""
        nn.init.uniform_(self.tile, -self.epsilon / 10, self.epsilon / 10)

    @torch.no_grad()
    def rescale(self, trained: float) -> None:
        if trained == 0:
            raise InputError("patterns that were learned with epsilon 0 are zero and cannot be scaled")
        self.tile.mul_(self.epsilon / trained).clamp_(-self.epsilon, self.epsilon)

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if image.ndim - 2 != len(self.size):
            reason = f"a pattern of {list(self.size)} voxels does not fit images"
            raise InputError(f"{reason} of {image.ndim - 2} dimensions")
        if label is not None:
            check_classes(label, self.num_classes)
        return super().support(image, label)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        assert label is not None
        support = self.support(image, label) if support is None else support
        shape, is_map = image.shape[2:], label.ndim > 1
        patterns = self._repeated(shape) if is_map else F.interpolate(self.tile, shape)
        if self.granularity == Granularity.UNIVERSAL:
            return patterns * support
        if not is_map:
            return patterns[label] * support
        voxels = F.one_hot(label[:, 0], self.num_classes).movedim(-1, 1).to(image.dtype)
        return torch.einsum("kc...,bk...->bc...", patterns, voxels) * support

    def _repeated(self, shape: Sequence[int]) -> Tensor:
        pattern: Tensor = self.tile
        for axis, (extent, period) in enumerate(zip(shape, self.size, strict=True), start=2):
            pattern = pattern.index_select(axis, (centered(extent) % period).to(pattern.device))
        return pattern
