# SPDX-License-Identifier: Apache-2.0
"""A few sites that tell the class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.perturbers.patterns.base import ClassPatterns, random_signs
from monai_unlearnable.seeding import seeded

__all__ = ["FixedSites"]


class FixedSites(ClassPatterns):
    r"""Plus or minus epsilon at sites that are drawn for each class; the rest of the image is left as it is.

    After OPS (Wu et al., One-Pixel Shortcut, ICLR 2023), our reading: that method has no bound and searches, for each
    class, the pixel and the value that change its images most and most alike. Nothing is searched here, so that the
    sites depend on no data.

    Sites are drawn in relative coordinates: images of all sizes carry them at the same places.

    Args:
        epsilon: change of a site, in unit intensity.
        support: where noise is allowed, see :class:`ClassPatterns`.
        granularity: see :class:`ClassPatterns`.
        fraction: share of the sites that each class changes, at least one site. Sites are drawn over the whole image: a
            region holds its share of them. 0 for a single one, as in the paper.
        seed: decides on sites and signs.

    Raises:
        InputError: when the fraction is outside [0, 1].
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        support: MaskProvider | None = None,
        granularity: str = "class",
        fraction: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(epsilon, support, granularity)
        if not 0 <= fraction <= 1:
            raise InputError("a fraction of sites must lie in [0, 1]", value=fraction, limit=1.0)
        self.fraction, self.seed = fraction, seed

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "fraction": self.fraction, "seed": self.seed}

    def pattern(self, kind: int, case_id: str, image: Tensor) -> Tensor:
        channels, shape = image.shape[0], image.shape[1:]
        count = max(1, round(self.fraction * shape.numel()))
        places = torch.rand(count, len(shape), generator=seeded(self.seed, "place", kind), dtype=torch.float64)
        signs = random_signs((count, channels), seeded(self.seed, "sign", kind))
        sites = (places * torch.tensor(shape)).long().T
        noise = torch.zeros(*shape, channels).numpy()
        noise[tuple(sites.numpy())] = signs.numpy()  # numpy: of sites drawn twice the last sign is kept, always
        return torch.from_numpy(noise).movedim(-1, 0)
