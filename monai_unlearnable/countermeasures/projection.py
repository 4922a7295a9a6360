# SPDX-License-Identifier: Apache-2.0
"""Images made orthogonal to what a linear classifier of their labels uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monai_unlearnable.countermeasures.base import Countermeasure, Material, Prepared
from monai_unlearnable.countermeasures.classifiers import blocks, fit_classifier, labeled_vectors, unblocks
from monai_unlearnable.countermeasures.learning import LearnedChanged, choose_cases
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.utils.tensors import fit_extent
from monai_unlearnable.utils.values import check_positive

__all__ = ["BlockProjection", "OrthogonalProjection", "WholeProjection"]

RANK = 1e-3  # directions whose weights are smaller than this fraction of the largest are left alone


@dataclass(frozen=True)
class OrthogonalProjection(Countermeasure):
    """Removes linear shortcuts: images are projected orthogonally to the weights of a linear classifier.

    Sandoval-Segura et al., What Can We Learn from Unlearnable Datasets?, NeurIPS 2023, algorithm 1: logistic
    regression of the labels on the flattened images gives weights W; with an orthonormal basis Q of their span each
    image x becomes x - Q Qᵀ x. That undoes noise which is one pattern a class, and nothing else.

    Where labels are maps, the same is done with blocks of voxels (ours): the blocks that fill the image from its first
    voxel are classified by the fraction of each class in them, and each block is projected. A filter that slides would
    not do, since a pattern of period 2 flips its sign from voxel to voxel and says nothing about the label wherever the
    filter stands; blocks keep to its phase, as they do to that of all noise of a period that divides their side.
    The mean of each block is kept from the classifier and so survives: brightness is anatomy.

    Args:
        block: voxels an axis of a block; by default 8 in 2D and 4 in 3D. Ignored where the label is a class number.
        rows: blocks a case that the classifier learns from, drawn by the seed.
        penalty: factor of half the squared weights of all classes.
        iterations: largest number of L-BFGS iterations.
        max_cases: number of cases to learn from, chosen by the seed; None for all.

    Raises:
        InputError: when a number is not positive.
    """

    block: int | None = None
    rows: int = 1024
    penalty: float = 1.0
    iterations: int = 100
    max_cases: int | None = 512

    def __post_init__(self) -> None:
        check_positive(**vars(self))

    def prepare(self, material: Material) -> Prepared:
        """Fit the classifier; the projection takes the place of every image.

        Raises:
            InputError: when labels are missing or are all the same.
        """
        seed = derive_seed(material.seed, "orthogonal projection")
        cases = choose_cases(material.cases, self.max_cases, derive_seed(seed, "cases"))
        samples = (material.load(case) for case in track(cases, "loading case"))
        vectors = labeled_vectors(samples, block=self.block, rows=self.rows, seed=derive_seed(seed, "rows"))
        values = vectors.values
        if not vectors.whole:
            values = values.unflatten(1, (vectors.channels, -1))
            values = (values - values.mean(-1, keepdim=True)).flatten(1)
        weights = fit_classifier(values, vectors.targets, penalty=self.penalty, iterations=self.iterations).weights
        whole, extent = vectors.whole, vectors.extent
        change = WholeProjection(weights, extent) if whole else BlockProjection(weights, extent[0])
        return Prepared(material.cases, (LearnedChanged(change),))


class BlockProjection:
    """Projects every block of an image orthogonally to given weights.

    Args:
        weights: (directions, C * side**dims).
        side: voxels an axis of a block.
    """

    def __init__(self, weights: Tensor, side: int) -> None:
        self.basis, self.side = _basis(weights), side

    def __call__(self, image: Tensor) -> Tensor:
        basis = self.basis.to(image.device)
        rows = blocks(image, self.side)
        return unblocks(rows - (rows @ basis.T) @ basis, image.shape, self.side)


class WholeProjection:
    """Projects an image orthogonally to given weights; voxels that the weights do not reach stay as they are.

    Args:
        weights: (directions, C * extent).
        extent: spatial size that the weights are for; of smaller images the far end is missing.
    """

    def __init__(self, weights: Tensor, extent: tuple[int, ...]) -> None:
        self.weights, self.extent = weights, extent

    def __call__(self, image: Tensor) -> Tensor:
        weights = self.weights.view(len(self.weights), len(image), *self.extent)
        basis = _basis(torch.stack([fit_extent(row, image.shape[1:]) for row in weights]).flatten(1)).to(image.device)
        flat = image.flatten()
        return (flat - basis.T @ (basis @ flat)).view(image.shape)


def _basis(weights: Tensor) -> Tensor:
    """Orthonormal rows that span the rows of ``weights``; none where all are zero."""
    _, sizes, directions = torch.linalg.svd(weights, full_matrices=False)
    return directions[sizes > max(RANK * float(sizes[0]), 1e-12)]
