# SPDX-License-Identifier: Apache-2.0
"""Masks that keep a given number of voxels: the most significant ones, or others as controls."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from monai.utils.enums import StrEnum
from skimage.filters import threshold_otsu
from torch import Tensor

from monai_unlearnable.budget import Budget
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks.base import ComposedMask, MaskProvider, local_deviation
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import is_map
from monai_unlearnable.utils.values import check_whole


class Base(StrEnum):
    """The base of a fraction of voxels."""

    ALL = "all"
    FOREGROUND = "foreground"


class Unit(StrEnum):
    """What is selected: all channels of a voxel together, or each one by itself."""

    VOXEL = "voxel"
    ELEMENT = "element"


def top_k(score: Tensor, counts: Tensor) -> Tensor:
    """Mark the highest scores of each batch element, exactly as many as asked for; ties go to the lower index.

    Args:
        score: scores, (B, ...); minus infinity is never marked.
        counts: number of scores to mark, (B,).

    Returns:
        Boolean mask, of the shape of ``score``.
    """
    rows = [_top(row, int(count)) for row, count in zip(score.flatten(1), counts, strict=True)]
    return torch.stack(rows).reshape(score.shape)


def _top(score: Tensor, count: int) -> Tensor:
    count = min(count, int((score > -torch.inf).sum()))
    if count <= 0:
        return torch.zeros_like(score, dtype=torch.bool)
    threshold = score.kthvalue(len(score) - count + 1).values
    above, ties = score > threshold, score == threshold
    return above | (ties & (ties.cumsum(0) <= count - above.sum()))


def foreground(image: Tensor, label: Tensor | None = None) -> Tensor:
    """What an image shows, boolean (B, 1, spatial...): the regions of a label map, else the voxels brighter than Otsu's
    threshold of the image (mean over channels)."""
    if label is not None and is_map(label):
        return label > 0
    mean = image.mean(1, keepdim=True)
    limits = [float(threshold_otsu(part.detach().cpu().numpy().ravel())) for part in mean]
    return mean > torch.tensor(limits).to(mean).reshape(-1, *[1] * (image.ndim - 1))


class Score(Configurable, ABC):
    """A rank of elements: the higher, the sooner an element gets noise.

    Attributes:
        needs_gradient: whether the gradient of a loss must be given.
    """

    needs_gradient = False

    @abstractmethod
    def __call__(self, image: Tensor, label: Tensor | None, gradient: Tensor | None) -> Tensor:
        """Score elements.

        Args:
            image: normalized intensity, (B, C, spatial...).
            label: class indices, (B, 1, spatial...) or (B,).
            gradient: gradient of the loss that noise minimizes, by the image; the shape of ``image``.

        Returns:
            Scores of at least 0, (B, C or 1, spatial...).
        """


@dataclass(frozen=True)
class GradientScore(Score):
    """Size of the gradient (SALM, arXiv 2403.10573, our reading).

    Where a step down the gradient would leave [0, 1], as below a black background, the score is zero: the surrogate
    would not see it, nor would the file hold it where the window is the range of its dtype.

    Args:
        times_input: whether to multiply the gradient with the intensity.
    """

    times_input: bool = False
    needs_gradient = True

    def __call__(self, image: Tensor, label: Tensor | None, gradient: Tensor | None) -> Tensor:
        assert gradient is not None
        stuck = ((image <= 0) & (gradient > 0)) | ((image >= 1) & (gradient < 0))
        return (gradient * image if self.times_input else gradient).abs().masked_fill(stuck, 0)


@dataclass(frozen=True)
class RandomScore(Score):
    """Random ranks: a control. Each image has voxels of its own, which follow from its voxels and the seed.

    Args:
        seed: random seed of the ranks.
    """

    seed: int = 0

    def __call__(self, image: Tensor, label: Tensor | None, gradient: Tensor | None) -> Tensor:
        contents = [hashlib.sha256(part.detach().cpu().numpy().tobytes()).hexdigest() for part in image]
        draws = [torch.rand(1, *image.shape[2:], generator=seeded(self.seed, "sites", own)) for own in contents]
        return torch.stack(draws).to(image)


@dataclass(frozen=True)
class ForegroundScore(Score):
    """Random ranks within the :func:`foreground`, then outside of it: a control.

    Args:
        seed: random seed of the ranks.
    """

    seed: int = 0

    def __call__(self, image: Tensor, label: Tensor | None, gradient: Tensor | None) -> Tensor:
        return RandomScore(self.seed)(image, label, gradient) + foreground(image, label)


@dataclass(frozen=True)
class VarianceScore(Score):
    """Local standard deviation of the intensity: a control, and where noise is hidden best.

    Args:
        radius: half-width of the neighborhood in voxels.

    Raises:
        InputError: when the neighborhood is the voxel alone.
    """

    radius: int = 1

    def __post_init__(self) -> None:
        check_whole("radius of the score", self.radius, 1)

    def __call__(self, image: Tensor, label: Tensor | None, gradient: Tensor | None) -> Tensor:
        return local_deviation(image, self.radius)


@dataclass(frozen=True)
class Sparsity(Configurable):
    """The number of voxels of an image that noise may touch, and how they are selected.

    Args:
        fraction: number of voxels as a fraction of ``of``, in (0, 1], rounded down.
        score: rank of the voxels.
        of: ``"all"`` voxels, or those of the :func:`foreground`.
        per: ``"voxel"``: all channels of a voxel together, ranked by their Euclidean norm; ``"element"``: as many
            channels one by one, so that voxels may change in some channels only, and never more voxels do.
        patch: edge of the blocks, in voxels, that are ranked by their mean score; the last one may be taken in part.

    Raises:
        InputError: when a name is unknown or the fraction out of range.
    """

    fraction: float = 0.1
    score: Score = field(default_factory=GradientScore)
    of: str = "all"
    per: str = "voxel"
    patch: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError("the fraction of voxels must lie in (0, 1]", value=self.fraction, limit=1.0)
        check_whole("patch", self.patch)
        if self.patch < 1:
            raise InputError("a patch has at least one voxel along each axis", value=self.patch, limit=1)
        look_up("base of a fraction", self.of, Base)
        look_up("unit of a fraction", self.per, Unit)

    def select(
        self, image: Tensor, label: Tensor | None = None, support: Tensor | None = None, gradient: Tensor | None = None
    ) -> Tensor:
        """The voxels that noise may touch.

        Args:
            image: normalized intensity, (B, C, spatial...).
            label: class indices, (B, 1, spatial...) or (B,).
            support: mask of where noise is allowed at all, (B, 1, spatial...); where it is zero no voxel is selected.
            gradient: gradient of the loss that noise minimizes, for scores that need it.

        Returns:
            0 or 1, (B, 1, spatial...), or (B, C, spatial...) for elements, of the dtype of ``image``.

        Raises:
            InputError: when the score needs a gradient and there is none.
        """
        if self.score.needs_gradient and gradient is None:
            raise InputError(f"{type(self.score).__name__} needs a gradient")
        score = self.score(image, label, gradient)
        of_voxels = self.per == Unit.VOXEL
        score = torch.linalg.vector_norm(score, dim=1, keepdim=True) if of_voxels else score.expand_as(image)
        if self.patch > 1:
            score = _of_blocks(score, self.patch)
        if support is not None:
            score = score.masked_fill(support <= 0, -torch.inf)
        base = foreground(image, label) if self.of == Base.FOREGROUND else torch.ones_like(image[:, :1])
        sizes, budget = base.count_nonzero(tuple(range(1, base.ndim))).tolist(), Budget(0, fraction=self.fraction)
        counts = torch.tensor([budget.limit(voxels) for voxels in sizes])
        return top_k(score, counts).to(image.dtype)


def _of_blocks(score: Tensor, edge: int) -> Tensor:
    """Each score replaced by the mean over its block."""
    pool = F.avg_pool2d if score.ndim == 4 else F.avg_pool3d
    block = [min(edge, extent) for extent in score.shape[2:]]
    means = pool(score, block, ceil_mode=True, count_include_pad=False)
    for axis, side in enumerate(block, start=2):
        means = means.repeat_interleave(side, axis).narrow(axis, 0, score.shape[axis])
    return means


@dataclass(frozen=True)
class TopK(ComposedMask):
    """The voxels that a score ranks highest, as a mask for any method.

    For a score that needs gradients, which need a network, see :class:`~monai_unlearnable.perturbers.SalientVoxels`.

    Args:
        sparsity: number and rank of the voxels.
        within: mask whose voxels are ranked; None for all voxels.

    Raises:
        InputError: when the score needs a gradient, or elements are selected: a mask is one of voxels.
    """

    sparsity: Sparsity
    within: MaskProvider | None = None

    def __post_init__(self) -> None:
        if self.sparsity.score.needs_gradient:
            raise InputError(f"{type(self.sparsity.score).__name__} needs a network; use SalientVoxels")
        if self.sparsity.per != Unit.VOXEL:
            raise InputError("a mask selects voxels, not elements", value=self.sparsity.per)

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        support = None if self.within is None else self.within(image, label)
        chosen = self.sparsity.select(image, label, support)
        return chosen if support is None else chosen * support
