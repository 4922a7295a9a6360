# SPDX-License-Identifier: Apache-2.0
"""One axis at a time gives the values of the whole neighborhood."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_unlearnable.masks.base import max_filter


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("shape", [(2, 1, 9, 8), (1, 3, 7, 8, 9)])
def test_equals_pooling_over_the_neighborhood(shape: tuple[int, ...], radius: int) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pool = F.max_pool2d if len(shape) == 4 else F.max_pool3d
    assert torch.equal(max_filter(image, radius), pool(image, 2 * radius + 1, stride=1, padding=radius))
