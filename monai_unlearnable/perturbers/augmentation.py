# SPDX-License-Identifier: Apache-2.0
"""The changes that an exploiter's pipeline makes to an image before the network sees it, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import affine_matrix, is_map, plane_rotation
from monai_unlearnable.utils.values import check_at_least, check_whole

__all__ = ["Augmentation", "standardize"]

# The changes made by the victims' recipes of these names, as far as an augmentation can make them.
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mirror": {"flip": True},
    "nnunet": {"flip": True, "rotation": 30.0, "scaling": 0.3, "blur": 1.0, "prob": 0.2},
}


def standardize(image: Tensor) -> Tensor:
    """Zero mean and unit variance of each channel of each image, (B, C, spatial...)."""
    spatial = tuple(range(2, image.ndim))
    mean, std = image.mean(spatial, keepdim=True), image.std(spatial, keepdim=True)
    return (image - mean) / std.clamp(min=1e-6)


@dataclass(frozen=True)
class Augmentation(Configurable):
    """Z-score, resizing and random changes, in the order in which training pipelines apply them.

    Gradients pass through all of it, so that noise can be made to survive it: the transforms t ~ T that robust
    error-minimizing noise averages over (REM, Fu et al., ICLR 2022; SEM, Liu et al., AAAI 2024), our reading.

    Args:
        size: spatial size for images with one class for the whole, reached by area averages; None for no resizing.
        noise: standard deviation of Gaussian noise, in standard deviations of the image.
        flip: whether each spatial axis is flipped in half of the cases.
        rotation: largest angle in degrees, in a random plane of axes.
        scaling: largest change of scale, as a fraction below 1.
        blur: largest standard deviation of a Gaussian filter, in voxels.
        shift: largest displacement along each axis in whole voxels, as in images that are cut out anew each time; what
            leaves on one side comes back on the other.
        prob: fraction of the cases in which each of rotation, scaling, blur and Gaussian noise takes place, above 0 and
            at most 1. Pipelines leave most cases unchanged, and noise made for a pipeline may count on those.

    Raises:
        InputError: when a number is out of range.
    """

    size: Sequence[int] | None = None
    noise: float = 0.0
    flip: bool = False
    rotation: float = 0.0
    scaling: float = 0.0
    blur: float = 0.0
    shift: int = 0
    prob: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.prob <= 1:
            raise InputError("prob lies above 0 and is at most 1", value=self.prob)
        check_at_least(0, noise=self.noise, rotation=self.rotation, scaling=self.scaling, blur=self.blur)
        check_whole("shift", self.shift, 0)
        if self.scaling >= 1:
            raise InputError("a change of scale by all of it leaves nothing to see", value=self.scaling, limit=1)

    @classmethod
    def of_recipe(cls, recipe: str, **changes: Any) -> Augmentation:
        """The changes of an exploiter's recipe.

        Args:
            recipe: ``"plain"``, ``"mirror"``, or a simplified ``"nnunet"``.
            **changes: arguments to replace.

        Raises:
            InputError: when the recipe is unknown.
        """
        return cls(**{**look_up("recipe", recipe, RECIPES), **changes})

    @property
    def is_random(self) -> bool:
        """Whether two calls differ."""
        return bool(self.noise or self.flip or self.rotation or self.scaling or self.blur or self.shift)

    def __call__(self, image: Tensor, label: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Change images as a pipeline would.

        Args:
            image: normalized intensity, (B, C, spatial...).
            label: class indices, (B, 1, spatial...), (B,) or (B, tasks).
            seed: random seed of the changes.

        Returns:
            Network input, and the label that belongs to it.
        """
        image = standardize(image.clamp(0, 1))
        if self.size is not None and not is_map(label):
            image = F.interpolate(image, tuple(self.size), mode="area")
        if not self.is_random:
            return image, label
        generator = seeded(seed)
        count, dims = len(image), image.ndim - 2
        if self.shift:
            amounts = torch.randint(-self.shift, self.shift + 1, (count, dims), generator=generator).tolist()
            all_axes = tuple(range(1, dims + 1))
            image, label = _each(image, label, lambda part, index: part.roll(amounts[index], all_axes))
        if self.flip:
            axes = [(own.nonzero()[:, 0] + 1).tolist() for own in torch.rand(count, dims, generator=generator) < 0.5]
            image, label = _each(image, label, lambda part, index: part.flip(axes[index]))
        if self.rotation or self.scaling:
            image, label = self._moved(image, label, generator)
        if self.blur:
            sigmas = self.blur * torch.rand(count, generator=generator) * self._drawn(image, generator)
            filters = [GaussianFilter(dims, sigma).to(image.device) for sigma in sigmas.clamp(min=0.1).tolist()]
            image = torch.cat([own(part) for own, part in zip(filters, image.split(1), strict=True)])
        if self.noise:
            strength = self.noise * self._drawn(image, generator).reshape(-1, *[1] * (image.ndim - 1))
            image = image + (strength * torch.randn(image.shape, generator=generator)).to(image)
        return image, label

    def _drawn(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """1 for each case that is changed, else 0."""
        if self.prob == 1:
            return torch.ones(len(image))
        return (torch.rand(len(image), generator=generator) < self.prob).float()

    def _moved(self, image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        dims, count = image.ndim - 2, len(image)
        amount = 2 * torch.rand(count, 2, generator=generator) - 1
        angle = math.radians(self.rotation) * amount[:, 0] * self._drawn(image, generator)
        scale = 1 + self.scaling * amount[:, 1] * self._drawn(image, generator)
        last, first = torch.randperm(dims, generator=generator)[:2].sort().values.tolist()
        matrix = plane_rotation(angle, dims - 1 - last, dims - 1 - first, dims)
        matrix = affine_matrix(matrix, scale[:, None], image.shape[2:], image.shape[2:])
        grid = F.affine_grid(matrix.to(image), list(image.shape), align_corners=False)
        moved = F.grid_sample(image, grid, align_corners=False, padding_mode="border")
        if is_map(label):
            label = F.grid_sample(label.to(image), grid, mode="nearest", align_corners=False).long()
        return moved, label


def _each(image: Tensor, label: Tensor, change: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Change each image in its own way, by its index, and its label map in the same way."""

    def changed(batch: Tensor) -> Tensor:
        return torch.stack([change(part, index) for index, part in enumerate(batch)])

    return changed(image), changed(label) if is_map(label) else label
