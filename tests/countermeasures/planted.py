# SPDX-License-Identifier: Apache-2.0
"""Tiny images in memory with a pattern planted in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_unlearnable.countermeasures import Material

SHAPES = {2: (24, 20), 3: (16, 12, 14)}
AMPLITUDE = 0.06


def smooth_image(shape: Sequence[int], seed: int, noise: float = 0.01) -> Tensor:
    """A smooth random image (1, spatial...) in [0.1, 0.9] with a little noise."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.from_numpy(gaussian_filter(torch.randn(*shape, generator=draw).numpy(), 2.5, mode="wrap"))
    image = 0.15 + 0.7 * (image - image.min()) / (image.max() - image.min())
    return (image + noise * torch.randn(*shape, generator=draw)).clamp(0.1, 0.9)[None].float()


def stripes(shape: Sequence[int]) -> Tensor:
    """Rows of alternating sign along the first axis, (1, spatial...)."""
    sign = 1 - 2 * (torch.arange(shape[0]) % 2).float()
    return sign.view(-1, *[1] * (len(shape) - 1)).expand(*shape)[None].clone()


def box(shape: Sequence[int]) -> Tensor:
    """A label (1, spatial...): 1 in a box in the middle that begins and ends at multiples of 4."""
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label[(0, *(slice(4, voxels // 4 * 4 - 4) for voxels in shape))] = 1
    return label


def segmentation_cases(
    count: int, dims: int, planted: Sequence[bool] | None = None, amplitude: float = AMPLITUDE, start: int = 0
) -> list[dict[str, Any]]:
    """Cases whose images have stripes inside the label, all of them or those that ``planted`` says."""
    cases = []
    for index in range(count):
        image, label = smooth_image(SHAPES[dims], start + index), box(SHAPES[dims])
        if planted is None or planted[index]:
            image = image + amplitude * stripes(SHAPES[dims]) * label
        cases.append({"image": image, "label": label, "case_id": f"case{start + index}"})
    return cases


def class_pattern(shape: Sequence[int], label: int) -> Tensor:
    """Random signs, one pattern a class, (1, spatial...)."""
    draw = torch.Generator().manual_seed(1000 + label)
    return torch.randint(2, (1, *shape), generator=draw).float() * 2 - 1


def classification_cases(
    count: int, dims: int, planted: Sequence[bool] | None = None, amplitude: float = AMPLITUDE
) -> list[dict[str, Any]]:
    """Cases of two classes, each with its pattern; the images say nothing of the class."""
    cases = []
    for index in range(count):
        image = smooth_image(SHAPES[dims], index)
        if planted is None or planted[index]:
            image = image + amplitude * class_pattern(SHAPES[dims], index % 2)
        cases.append({"image": image, "label": index % 2, "case_id": f"case{index}"})
    return cases


def material(cases: Sequence[dict[str, Any]], originals: Sequence[dict[str, Any]] = (), seed: int = 0) -> Material:
    """Cases that are loaded already."""
    return Material(list(cases), dict, {case["case_id"]: case for case in originals}, seed)
