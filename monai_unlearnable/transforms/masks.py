# SPDX-License-Identifier: Apache-2.0
"""Transforms that make masks: of labels, and of the voxels that matter most to a network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils.enums import TransformBackends
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider, Sparsity, TopK
from monai_unlearnable.perturbers import Augmentation, SalientVoxels
from monai_unlearnable.transforms.io import class_indices, like, to_numpy
from monai_unlearnable.utils.enums import CaseKeys

__all__ = ["ComputeMask", "ComputeMaskD", "ComputeMaskDict", "ComputeMaskd"]
__all__ += ["SparsityMask", "SparsityMaskD", "SparsityMaskDict", "SparsityMaskd"]


class ComputeMask(Transform):
    """The mask of one image, from any :class:`~monai_unlearnable.masks.MaskProvider`.

    Args:
        provider: a mask or a composition of masks.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, provider: MaskProvider) -> None:
        self.provider = provider

    def __call__(self, img: Tensor, label: Tensor | None = None) -> Tensor:
        """The mask (1, spatial...), float32 in [0, 1], of an image (C, spatial...) and class indices (1, spatial...).

        Raises:
            LabelError: when a label is needed and absent, or does not match.
        """
        image = torch.as_tensor(to_numpy(img)).float()[None]
        classes = None if label is None else torch.as_tensor(class_indices(label))[None]
        return like(self.provider(image, classes)[0].numpy(), img)  # type: ignore[no-any-return]


class ComputeMaskd(MapTransform):
    """Dictionary version of :class:`ComputeMask`; the mask goes to ``mask_key``.

    Args:
        keys: the image.
        provider: provider of the mask, see :class:`ComputeMask`.
        label_key: class indices; None where the provider needs none.
        mask_key: entry for the mask.
        allow_missing_keys: whether keys may be absent.
    """

    backend = ComputeMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        provider: MaskProvider,
        label_key: str | None = CaseKeys.LABEL,
        mask_key: str = "mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.compute, self.label_key, self.mask_key = ComputeMask(provider), label_key, mask_key

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[self.mask_key] = self.compute(d[key], None if self.label_key is None else d[self.label_key])
        return d


ComputeMaskD = ComputeMaskDict = ComputeMaskd


def _provider(sparsity: Sparsity, network: nn.Module | None, augmentation: Augmentation | None) -> MaskProvider:
    if not sparsity.score.needs_gradient:
        return TopK(sparsity)
    if network is None:
        raise InputError(f"{type(sparsity.score).__name__} needs a network")
    return SalientVoxels(network, sparsity, augmentation=Augmentation() if augmentation is None else augmentation)


class SparsityMask(ComputeMask):
    """A given number of the most significant voxels of one image (SALM, arXiv 2403.10573, our reading).

    Args:
        sparsity: number and rank of the voxels.
        network: a trained network of the task, for scores that need gradients, such as
            :func:`~monai_unlearnable.perturbers.load_surrogate` finds in a checkpoint.
        augmentation: changes that the network's pipeline makes to images; z-score by default.

    Raises:
        InputError: when the score needs a network and there is none.
    """

    def __init__(
        self, sparsity: Sparsity, network: nn.Module | None = None, augmentation: Augmentation | None = None
    ) -> None:
        super().__init__(_provider(sparsity, network, augmentation))


class SparsityMaskd(ComputeMaskd):
    """Dictionary version of :class:`SparsityMask`; the mask goes to ``mask_key``.

    Args:
        keys: the image.
        sparsity, network, augmentation: see :class:`SparsityMask`.
        label_key: class indices of voxels, or the class of the image; None where the score needs none.
        mask_key: entry for the mask.
        allow_missing_keys: whether keys may be absent.
    """

    backend = SparsityMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        sparsity: Sparsity,
        network: nn.Module | None = None,
        augmentation: Augmentation | None = None,
        label_key: str | None = CaseKeys.LABEL,
        mask_key: str = "mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, _provider(sparsity, network, augmentation), label_key, mask_key, allow_missing_keys)


SparsityMaskD = SparsityMaskDict = SparsityMaskd
