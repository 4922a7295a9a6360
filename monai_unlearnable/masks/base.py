# SPDX-License-Identifier: Apache-2.0
"""What a mask is, how masks combine, and the masks that follow from labels: regions, contours, texture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.suited import not_for_classes
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.tensors import is_map
from monai_unlearnable.utils.values import check_positive, check_whole

__all__ = [
    "Complement",
    "ComposedMask",
    "Everywhere",
    "Intersection",
    "MaskProvider",
    "Union",
    "max_filter",
    "Roi",
    "ContourBand",
    "OfClasses",
    "TextureMap",
    "local_deviation",
]


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
            if not is_map(label) and self.needs_maps:
                raise not_for_classes(type(self).__name__)
            if (is_map(label) and label.shape[2:] != image.shape[2:]) or label.shape[0] != image.shape[0]:
                raise LabelError(f"label {tuple(label.shape)} does not match image {tuple(image.shape)}")
        return self.mask(image, label).to(image.dtype)

    @property
    def needs_maps(self) -> bool:
        """Whether the mask, or a part of it, needs a class for each voxel; one for the whole image does not tell it."""
        return (self.needs_label and not self.of_images) or any(part.needs_maps for part in self.parts())

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

    One axis after the other: a cube of side n costs 3n instead of n cubed, with exactly the same values. Shifted
    copies are compared, which takes a small part of the time of torch's pooling on a CPU.

    Args:
        image: (B, C, spatial...), 2D or 3D.
        radius: half-width of the neighborhood in voxels (Chebyshev distance).
    """
    for axis in range(2, image.ndim) if radius else ():
        before, image, extent = image, image.clone(), image.shape[axis]
        for shift in range(1, min(radius, extent - 1) + 1):
            for there, here in ((0, shift), (shift, 0)):
                part = image.narrow(axis, there, extent - shift)
                part.copy_(torch.maximum(part, before.narrow(axis, here, extent - shift)))
    return image


@dataclass(frozen=True)
class Roi(MaskProvider):
    """The foreground of the label.

    Args:
        margin: voxels by which the region is dilated (Chebyshev distance).

    Raises:
        InputError: when the margin is no whole number from 0 on.
    """

    margin: int = 0

    def __post_init__(self) -> None:
        check_whole("margin of the region", self.margin, 0)

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return max_filter((label > 0).float(), self.margin)


@dataclass(frozen=True)
class ContourBand(MaskProvider):
    """A band around the contour of every class: dilation minus erosion per class, united over the classes.

    Taken per class, so that borders between two classes count as contours too (UMed, arXiv 2403.14250, uses a
    half-width of 3 on both sides).

    Args:
        inner: voxels that the band reaches into a class.
        outer: voxels that it reaches out of the class.

    Raises:
        InputError: when one of them is no whole number from 0 on.
    """

    inner: int = 3
    outer: int = 3

    def __post_init__(self) -> None:
        check_whole("inner of the contour band", self.inner, 0)
        check_whole("outer of the contour band", self.outer, 0)

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        band = torch.zeros_like(label, dtype=torch.float32)
        for value in torch.unique(label[label > 0]).tolist():  # one at a time: there may be hundreds
            own = (label == value).float()
            # The border of the image is no contour: voxels beyond it count for neither filter.
            band = torch.maximum(band, max_filter(own, self.outer) - (1 - max_filter(1 - own, self.inner)))
        return band


@dataclass(frozen=True)
class OfClasses(MaskProvider):
    """The voxels of some classes, or the whole of the images of some classes.

    ``Everywhere() & ~OfClasses([1])`` leaves class 1 unperturbed. Models then learn the absence of noise as evidence
    for it, and take all clean images for that class.

    Args:
        kinds: the classes.
    """

    kinds: Sequence[int]
    of_images = True

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        if label.ndim == 2:
            raise LabelError(f"OfClasses needs one class an image; the cases have {label.shape[1]}")
        chosen = torch.isin(label, torch.tensor(list(self.kinds), device=label.device)).float()
        return chosen.reshape(-1, *[1] * (image.ndim - 1)).expand_as(image[:, :1]) if label.ndim == 1 else chosen


@dataclass(frozen=True)
class TextureMap(MaskProvider):
    """Local standard deviation, 1 where it reaches ``saturation`` times its mean over the image.

    Stands in for the local binary pattern of UMed (our choice): it is zero, not maximal, on constant regions.

    Args:
        radius: half-width of the neighborhood in voxels.
        saturation: multiple of the mean local deviation from which the map is 1.
        floor: smallest value of the map, in [0, 1]; 1 turns the map off.

    Raises:
        InputError: when a neighborhood is the voxel alone, or a number is out of range.
    """

    radius: int = 1
    saturation: float = 1.0
    floor: float = 0.0

    needs_label = False

    def __post_init__(self) -> None:
        check_whole("radius of the texture map", self.radius, 1)
        check_positive(saturation=self.saturation)
        if not 0 <= self.floor <= 1:
            raise InputError("the floor of the texture map must lie in [0, 1]", value=self.floor, limit=1.0)

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        spatial = tuple(range(1, image.ndim))
        deviation = local_deviation(image, self.radius).mean(1, keepdim=True)
        typical = self.saturation * deviation.mean(spatial, keepdim=True)
        texture = (deviation / typical.clamp(min=1e-12)).clamp(max=1)
        return self.floor + (1 - self.floor) * texture


def local_deviation(image: Tensor, radius: int) -> Tensor:
    """Standard deviation over the neighborhood of each voxel, exactly zero where that is constant.

    Args:
        image: (B, C, spatial...).
        radius: half-width of the neighborhood in voxels.
    """

    def local_mean(values: Tensor) -> Tensor:
        pool = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
        return pool(values, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean = local_mean(image)
    variance = (local_mean(image * image) - mean * mean).clamp(min=0)
    is_constant = max_filter(image, radius) == -max_filter(-image, radius)  # the variance there is a rounding error
    return variance.masked_fill(is_constant, 0).sqrt()
