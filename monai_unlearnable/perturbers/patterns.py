# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: a pattern for each class, and what all methods of that kind share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from monai.utils.enums import StrEnum
from torch import Tensor

from monai_unlearnable.errors import LabelError
from monai_unlearnable.masks import Everywhere, MaskProvider, Roi
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.utils.arrays import bounding_box
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import derive_seed

__all__ = ["ClassPatterns", "Granularity", "centered", "random_signs"]


class Granularity(StrEnum):
    """The owner of the pattern that a voxel carries: its class, its case, or all cases together."""

    CLASS = "class"
    CASE = "case"
    UNIVERSAL = "universal"


def random_signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Minus or plus one, drawn independently, float32."""
    return torch.randint(0, 2, tuple(shape), generator=generator, dtype=torch.int8).float() * 2 - 1


def centered(extent: int) -> Tensor:
    """The coordinates of the voxels along an axis.

    Zero is where even padding, as MONAI's ``SpatialPad`` does it, puts the middle of any even size: patterns of images
    of all sizes agree once these are padded for a network.
    """
    return torch.arange(extent) - (extent + 1) // 2


class ClassPatterns(Perturber):
    r"""Base of the methods that add the pattern of the class, independent of the image.

    .. math::
        \delta(s) = \epsilon\, S(s)\, P_{y(s)}(s), \qquad |P_k| \le 1

    With a label map :math:`y(s)` is the class of the voxel; with classes of whole images, label (B,), it is that of the
    image. Patterns are drawn from the seed and the class, or from the seed and the case id: the noise of a case depends
    neither on the other cases nor on how many there are of which class.

    Args:
        epsilon: largest change of a voxel, in normalized intensity.
        support: mask of where noise is allowed. By default the exact region of a label map, so that the background has
            no noise, and the whole of an image that has one class. Where the support holds background, the background
            carries pattern 0.
        granularity: owner of a pattern. ``"class"``: each class has its own. ``"case"``: one is drawn for the case.
            ``"universal"``: all cases carry pattern 0. The last two say nothing about classes of whole images, and of
            regions no more than where they are.
        seed: random seed of the patterns, for methods that draw them.

    Attributes:
        is_drawn: whether patterns are drawn from the seed alone.

    Raises:
        InputError: when the granularity is unknown.
    """

    allowed: MaskProvider | None  # type: ignore[assignment]
    is_drawn: bool = False
    windowed = False  # coordinates are those of the whole image

    def __init__(
        self, epsilon: float = 8 / 255, support: MaskProvider | None = None, granularity: str = "class", seed: int = 0
    ) -> None:
        super().__init__()
        self.epsilon, self.allowed, self.seed = epsilon, support, seed
        self.granularity = look_up("granularity", granularity, Granularity)
        self._depend_on(support)

    @property
    def draws_mark(self) -> bool:  # type: ignore[override]
        return self.is_drawn and self.granularity != Granularity.CASE

    @property
    def needs_label(self) -> bool:
        return self.granularity == Granularity.CLASS or self.allowed is None or self.allowed.needs_label

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if self.allowed is not None:
            return self.allowed(image, label)
        of_images = label is not None and label.ndim == 1
        return (Everywhere() if of_images else Roi())(image, label)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        noise = torch.zeros_like(image)
        for index, case_id in enumerate(case_ids):
            box = (slice(None), *bounding_box((support[index, 0] > 0).cpu().numpy()))
            own = self._noise(image[index], case_id, support[index], None if label is None else label[index], box)
            noise[index][box] = self.epsilon * own * support[index][box]
        return noise

    def _noise(
        self, image: Tensor, case_id: str, support: Tensor, label: Tensor | None, box: tuple[slice, ...]
    ) -> Tensor:
        """Patterns in the box of the support."""
        if self.granularity != Granularity.CLASS:
            kind = 0 if self.granularity == Granularity.UNIVERSAL else derive_seed("case", case_id)
            return self.pattern_in(box, kind, case_id, image).to(image)
        if label is None:
            raise LabelError("the method needs a label, and the case has none", case=case_id)
        noise = torch.zeros_like(image[box])
        classes = label if label.ndim == 0 else label[box]
        for kind in torch.unique(classes if label.ndim == 0 else classes[support[box] > 0]).tolist():
            noise = torch.where(classes == kind, self.pattern_in(box, kind, case_id, image).to(image), noise)
        return noise

    def pattern_in(self, box: tuple[slice, ...], kind: int, case_id: str, image: Tensor) -> Tensor:
        """The :meth:`pattern` in a box of the image (C, spatial...); subclasses may make no more than that."""
        return self.pattern(kind, case_id, image)[box]

    @abstractmethod
    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        """The pattern of a class over a whole image; subclasses implement it.

        Args:
            kind: class, or a number of the case where each case has a pattern of its own.
            case_id: name of the case, for methods whose patterns differ among the cases of a class.
            image: normalized intensity, (C, spatial...), 2D or 3D.

        Returns:
            Pattern in [-1, 1], of the shape of ``image``.
        """
