# SPDX-License-Identifier: Apache-2.0
"""Noise that hides a picture of the class in each image: Deep Hiding, our reading."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.base import check_image_classes
from monai_unlearnable.perturbers.invertible import HidingNetwork
from monai_unlearnable.perturbers.patterns import ClassPatterns
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import averaged

__all__ = ["DeepHiding", "class_pictures"]

SHARPNESS = 3.0  # of the border of a shape: the slope of tanh, for a field of standard deviation 1


def class_pictures(num_classes: int, size: Sequence[int], detail: int, seed: int) -> Tensor:
    r"""A picture of large smooth shapes for each class.

    .. math::
        p_k(s) = \tanh(3 f_k(s)), \qquad f_k = \sum_m w_{k,m} \prod_a \cos(\pi m_a u_a)

    with the position :math:`u_a` in [0, 1] along axis a, :math:`m_a \le` ``detail`` and weights drawn from the seed. A
    shape is where the field f is positive: its border is a closed curve or ends at the border of the image. The fields
    of different classes are orthogonal, as long as there are as many waves as classes, and so have no mean. Pictures
    of another size show the same shapes.

    Args:
        num_classes: number of classes K.
        size: spatial size, in voxels.
        detail: largest number of half waves along an axis, at least 1.
        seed: random seed.

    Returns:
        Pictures in [-1, 1], (K, 1, spatial...).
    """
    waves = torch.ones(1, *[1] * len(size))
    for axis, extent in enumerate(size):
        line = torch.cos(math.pi * torch.arange(detail + 1)[:, None] * (torch.arange(extent) + 0.5) / extent)
        line = line / line.square().mean(1, keepdim=True).sqrt()
        along = line.reshape(-1, *[extent if other == axis else 1 for other in range(len(size))])
        waves = (waves[:, None] * along).flatten(0, 1)
    waves = waves[1:]  # without the constant
    count, generator = len(waves), seeded(seed, "pictures")
    drawn = [torch.randn(count, count, generator=generator) for _ in range(0, num_classes, count)]
    weights = torch.cat([torch.linalg.qr(square)[0] for square in drawn])[:num_classes]
    return torch.tanh(SHARPNESS * torch.tensordot(weights, waves, 1))[:, None]


class DeepHiding(ClassPatterns):
    r"""Hides a picture of the class in each image by an invertible network, so that models learn what is hidden.

    .. math::
        \delta = \epsilon \tanh\big((N(x, p_y) - x) / \epsilon\big)

    with the picture :math:`p_y` of the class (:func:`class_pictures`) and the stego image :math:`N(x, p_y)` of the
    network. After Deep Hiding (Meng et al., Semantic Deep Hiding for Robust Unlearnable Examples, arXiv 2406.17349),
    our reading: the paper makes hidden pictures by a generative model, similar ones for the images of a class, and ours
    are drawn shapes, one for each class. The network is trained by :class:`~monai_unlearnable.training.Revealing`.

    Images are averaged to the size that the network was trained at, and the noise is spread from it: images of
    different sizes that are resized to one agree. This is for classes of whole images only.

    Args:
        num_classes: number of classes.
        size: size at which images go through the network, an even number of voxels along each axis.
        network: network that hides.
        epsilon: largest change of a voxel, in normalized intensity.
        support: mask of where noise is allowed; by default everywhere.
        detail: largest number of half waves of a picture along an axis.
        seed: random seed of the pictures.

    Attributes:
        trained_epsilon: the epsilon of the training; with another one the same noise is scaled.

    Raises:
        InputError: when the size does not fit the network or the pictures.
    """

    takes_maps = False
    trained_epsilon: Tensor

    def __init__(
        self,
        num_classes: int,
        size: Sequence[int],
        network: HidingNetwork,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        detail: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, seed=seed)
        if len(size) != network.spatial_dims:
            raise InputError(f"a network of {network.spatial_dims} dimensions does not fit the size {list(size)}")
        if detail < 1:
            raise InputError("a picture has one half wave at least", value=detail, limit=1)
        if any(extent % 2 or extent <= detail for extent in size):
            reason = f"pictures are hidden at even sizes of more than {detail} voxels, and the size is {list(size)}"
            raise InputError(reason)
        self.num_classes, self.size, self.detail = num_classes, tuple(size), detail
        self.network, self.in_channels = network, network.in_channels
        self.register_buffer("trained_epsilon", torch.tensor(float(epsilon)))

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None:
            check_image_classes(label, self.num_classes)
        return super().support(image, label)

    def pictures(self, seed: int) -> Tensor:
        """A picture for each class, drawn from a seed, (num_classes, 1, ``size``)."""
        return class_pictures(self.num_classes, self.size, self.detail, seed).to(self.trained_epsilon)

    def hide(self, image: Tensor, pictures: Tensor) -> Tensor:
        """The noise that hides pictures in images, as a fraction of epsilon, in [-1, 1].

        Args:
            image: normalized intensity, (B, C, ``size``).
            pictures: (B, 1, ``size``).
        """
        stego = self.network.hide(image, pictures)[0]
        return torch.tanh((stego - image) / self.trained_epsilon)

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        noise = self.hide(averaged(image[None], self.size), self.pictures(self.seed)[[kind]])
        return F.interpolate(noise, image.shape[1:])[0]
