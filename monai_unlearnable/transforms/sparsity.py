# SPDX-License-Identifier: Apache-2.0
"""Masks of the most significant sites as transforms."""

from __future__ import annotations

from monai.config import KeysCollection
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.keys import CaseKeys
from monai_unlearnable.masks import MaskProvider, Sparsity, TopK
from monai_unlearnable.perturbers import SalientSites, View
from monai_unlearnable.transforms.masks import ComputeMask, ComputeMaskd

__all__ = ["SparsityMask", "SparsityMaskD", "SparsityMaskDict", "SparsityMaskd"]


def _provider(sparsity: Sparsity, network: nn.Module | None, view: View | None) -> MaskProvider:
    if not sparsity.score.needs_gradient:
        return TopK(sparsity)
    if network is None:
        raise InputError(f"{type(sparsity.score).__name__} needs a network")
    return SalientSites(network, sparsity, view=View() if view is None else view)


class SparsityMask(ComputeMask):
    """The most significant sites of one image, exactly so many (SALM, arXiv 2403.10573, our reading).

    Args:
        sparsity: how many sites, and which.
        network: a trained network of the task, for scores that need gradients, such as
            :func:`~monai_unlearnable.perturbers.load_surrogate` finds in a checkpoint.
        view: what the network's pipeline does to images first; z-score by default.

    Raises:
        InputError: when the score needs a network and there is none.
    """

    def __init__(self, sparsity: Sparsity, network: nn.Module | None = None, view: View | None = None) -> None:
        super().__init__(_provider(sparsity, network, view))


class SparsityMaskd(ComputeMaskd):
    """Dictionary version of :class:`SparsityMask`; the mask goes to ``mask_key``.

    Args:
        keys: the image.
        sparsity: see :class:`SparsityMask`.
        network: see :class:`SparsityMask`.
        view: see :class:`SparsityMask`.
        label_key: class indices of sites, or the class of the image; None where the score needs none.
        mask_key: where the mask goes.
        allow_missing_keys: do not raise where a key is absent.
    """

    backend = SparsityMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        sparsity: Sparsity,
        network: nn.Module | None = None,
        view: View | None = None,
        label_key: str | None = CaseKeys.LABEL,
        mask_key: str = "mask",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, _provider(sparsity, network, view), label_key, mask_key, allow_missing_keys)


SparsityMaskD = SparsityMaskDict = SparsityMaskd
