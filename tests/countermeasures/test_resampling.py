# SPDX-License-Identifier: Apache-2.0
"""Resampling there and back, against torch's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from monai_unlearnable.countermeasures import ResampleBack
from monai_unlearnable.errors import InputError
from tests.countermeasures.images import alternating, unit_image


@pytest.mark.parametrize(("shape", "mode"), [((1, 16, 12), "bilinear"), ((2, 12, 8, 6), "trilinear")])
def test_linear_agrees_with_torch(shape: tuple[int, ...], mode: str) -> None:
    image = unit_image(shape)
    small = F.interpolate(torch.as_tensor(image)[None], scale_factor=0.5, mode=mode)
    back = F.interpolate(small, size=shape[1:], mode=mode)[0].numpy()
    assert np.allclose(ResampleBack(2, order=1)(image), back, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
def test_half_resolution_has_no_alternating_noise(order: int) -> None:
    flat = np.full((1, 16, 12, 8), 0.5, np.float32)
    noisy = flat + 8 / 255 * alternating(flat.shape, 0)
    assert np.abs(ResampleBack(2, order)(noisy) - flat).max() < (1e-6 if order == 1 else 0.02)
    inner = ResampleBack(2, order)(noisy)[:, 4:-4] - 0.5
    assert np.abs(inner).max() < 1e-3


def test_factors_of_axes() -> None:
    image = unit_image((1, 12, 12, 8))
    ramp = np.broadcast_to(np.linspace(0, 1, 9, dtype=np.float32)[:, None], (1, 9, 5))
    assert np.array_equal(ResampleBack([2, 1])(ramp), ResampleBack(2)(ramp))  # constant along the second axis
    along_z = ResampleBack([1, 1, 2], order=1)(image)
    assert np.allclose(along_z[..., 0], 0.5 * (image[..., 0] + image[..., 1]), atol=1e-6)
    assert np.abs(ResampleBack(3)(image) - image).mean() > np.abs(ResampleBack(1.5)(image) - image).mean()
    with pytest.raises(InputError, match="2 factors"):
        ResampleBack([2, 2])(image)


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="factor must be at least 1"):
        ResampleBack(0.5)
    with pytest.raises(InputError, match="order"):
        ResampleBack(2, order=7)
