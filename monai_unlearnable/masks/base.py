# SPDX-License-Identifier: Apache-2.0
"""The base of masks, their combinations, and the filters that they are made with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_unlearnable.errors import LabelError
from monai_unlearnable.utils.config import Configurable

__all__ = ["Complement", "ComposedMask", "Everywhere", "Intersection", "MaskProvider", "Union", "max_filter"]


class MaskProvider(Configurable, ABC):
    """A function of image and label that returns a support in [0, 1].

    Providers compose: ``a & b`` (product), ``a | b`` (maximum) and ``~a`` (1 - a).

    Attributes:
        needs_label: whether a label must be given.
        of_images: whether the label may also be the classes of whole images.
    """

    needs_label: bool = True
    of_images: bool = False

    def __call__(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the mask.

        Args:
            image: normalized intensity, (B, C, spatial...), 2D or 3D.
            label: class indices with 0 for background, (B, 1, spatial...); masks that follow no label also take classes
                of whole images, (B,).

        Returns:
            Mask in [0, 1], (B, 1, spatial...), of the dtype of ``image``.

        Raises:
            LabelError: when a label is needed and absent, or of another shape than the image.
        """
        if self.needs_label:
            if label is None:
                raise LabelError(f"{type(self).__name__} needs a label")
            if label.ndim == 1 and not self.of_images:
                reason = "needs a class for each voxel; the cases have one for the whole"
                raise LabelError(f"{type(self).__name__} {reason}")
            if (label.ndim > 1 and label.shape[2:] != image.shape[2:]) or label.shape[0] != image.shape[0]:
                raise LabelError(f"label {tuple(label.shape)} does not match image {tuple(image.shape)}")
        return self.mask(image, label).to(image.dtype)

    @abstractmethod
    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        """The mask itself; subclasses implement it, arguments as in :meth:`__call__`."""

    def parts(self) -> list[MaskProvider]:
        """The masks that this one is made of."""
        return [value for value in vars(self).values() if isinstance(value, MaskProvider)]

    def networks(self) -> list[nn.Module]:
        """The networks that the mask and its parts hold; checkpoints hold their weights too."""
        own = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        return own + [network for part in self.parts() for network in part.networks()]

    def __and__(self, other: MaskProvider) -> MaskProvider:
        return Intersection(self, other)

    def __or__(self, other: MaskProvider) -> MaskProvider:
        return Union(self, other)

    def __invert__(self) -> MaskProvider:
        return Complement(self)


@dataclass(frozen=True)
class Everywhere(MaskProvider):
    """The whole image."""

    needs_label = False

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        return torch.ones_like(image[:, :1])


class ComposedMask(MaskProvider):
    """Base of masks that need a label where one of their parts does; each part asks for the kind that it needs."""

    of_images = True

    @property
    def needs_label(self) -> bool:  # type: ignore[override]
        return any(part.needs_label for part in self.parts())


@dataclass(frozen=True)
class Intersection(ComposedMask):
    """Product of two masks."""

    first: MaskProvider
    second: MaskProvider

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        return self.first(image, label) * self.second(image, label)


@dataclass(frozen=True)
class Union(ComposedMask):
    """Larger one of two masks at every voxel."""

    first: MaskProvider
    second: MaskProvider

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        return torch.maximum(self.first(image, label), self.second(image, label))


@dataclass(frozen=True)
class Complement(ComposedMask):
    """Where a mask is not."""

    inner: MaskProvider

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        return 1 - self.inner(image, label)


def max_filter(image: Tensor, radius: int) -> Tensor:
    """The largest value within ``radius`` voxels along every axis; voxels beyond the border do not count.

    One axis after the other: a cube of side n costs 3n instead of n cubed, with exactly the same values.

    Args:
        image: (B, C, spatial...), 2D or 3D.
        radius: half-width of the neighborhood in voxels (Chebyshev distance).
    """
    pool = F.max_pool2d if image.ndim == 4 else F.max_pool3d
    for axis in range(image.ndim - 2 if radius else 0):
        size = [1 + 2 * radius * (axis == other) for other in range(image.ndim - 2)]
        image = pool(image, size, stride=1, padding=[extent // 2 for extent in size])
    return image
