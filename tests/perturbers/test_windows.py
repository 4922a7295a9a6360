# SPDX-License-Identifier: Apache-2.0
"""A part of a padded image, taken without padding the whole, is what padding the whole and cutting gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from monai_unlearnable.masks import Everywhere, Roi
from monai_unlearnable.perturbers import Perturber, UMed
from monai_unlearnable.perturbers.inference import Part, generate_noise, pad_to
from monai_unlearnable.utils.arrays import even_sides
from monai_unlearnable.utils.seeding import reset_parameters


@pytest.mark.parametrize("divisor", [1, 4, 8])
@pytest.mark.parametrize("voxels", [[(0, 0, 0)], [(20, 18, 29)], [(9, 3, 12), (14, 10, 17)], [(0, 18, 5), (20, 0, 29)]])
def test_part_around_a_support(voxels: list[tuple[int, ...]], divisor: int) -> None:
    shape = (21, 19, 30)
    image = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    support = np.zeros(shape, bool)
    support[tuple(np.transpose(voxels))] = True
    part = Part.around(support, divisor)
    taken, padded = part.take(image), pad_to(image, None, divisor)[0]
    starts = [start for start, _ in even_sides(shape, divisor)]
    first = [own.start - low + start for own, (low, _), start in zip(part.box, part.sides, starts, strict=True)]
    box = tuple(slice(low, low + extent) for low, extent in zip(first, taken.shape[2:], strict=True))
    assert torch.equal(taken, padded[(slice(None), slice(None), *box)])
    assert all(side.start % divisor == 0 and side.stop % divisor == 0 for side in box), "in phase with the whole"
    assert part.voxels == taken[0, 0].numel()
    target = torch.zeros_like(image)
    part.put(taken, target)
    assert torch.equal(target[:, :, support], image[:, :, support])
    assert torch.equal(target[target != 0], image[target != 0])


@pytest.mark.parametrize("divisor", [1, 8])
def test_the_whole_is_padded_evenly_and_put_back(divisor: int) -> None:
    image = torch.rand(1, 2, 9, 13, generator=torch.Generator().manual_seed(0))
    part, target = Part.whole((9, 13), divisor), torch.zeros_like(image)
    assert torch.equal(part.take(image), pad_to(image, None, divisor)[0])
    part.put(part.take(image), target)
    assert torch.equal(target, image)


def test_windows_without_support_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    perturber = reset_parameters(UMed(3, channels=(4, 4)), 0).eval()
    image = np.random.default_rng(0).random((1, 96, 24, 24), np.float32)
    label = np.zeros((1, 96, 24, 24), np.uint8)
    label[:, 2:8, 8:16, 8:16] = label[:, 88:94, 8:16, 8:16] = 1
    seen, made = [], perturber.delta

    def counted(*arguments: Any) -> torch.Tensor:
        seen.append(bool(arguments[3].any()))
        return made(*arguments)

    monkeypatch.setattr(perturber, "delta", counted)
    noise = generate_noise(perturber, image, "a", label, 16**3)
    assert all(seen) and 0 < len(seen) <= 2 * 2 * 9, "two ends of eleven positions"
    assert noise[label > 0].all() and not noise[label == 0].any()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("place", [0, 5, 40, 63, 121, 127])
def test_what_lies_around_the_support_is_seen_on_both_sides(axis: int, place: int) -> None:
    """Networks make noise of the surroundings too: as far as the divisor, where the image reaches."""

    class Looking(Perturber):
        """Notes what it sees of an image that counts its voxels along an axis."""

        def __init__(self) -> None:
            super().__init__()
            self.divisor, self.seen, self.allowed = 8, set(), Roi()

        def delta(self, image: torch.Tensor, *_: Any) -> torch.Tensor:
            self.seen |= set(image.flatten().int().tolist())
            return torch.ones_like(image)

    perturber, label = Looking(), np.zeros((1, 128, 128), np.uint8)
    label.swapaxes(1, 1 + axis)[:, place, 40:90] = 1
    counted = np.arange(1, 129, dtype=np.float32)[:, None].repeat(128, 1)
    generate_noise(perturber, (counted if axis == 0 else counted.T)[None], "a", label, window_voxels=32**2)
    around = range(max(place - 8, 0), min(place + 8, 127) + 1)
    assert {1 + voxel for voxel in around} <= perturber.seen
    assert len(perturber.seen) < 64, "and little more"


@pytest.mark.parametrize("divisor", [1, 8])
@pytest.mark.parametrize("extent", [72, 88, 104, 120, 136, 200, 256])
def test_windows_cover_little_more_than_the_image(extent: int, divisor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Here(Perturber):
        """One everywhere, noting what it sees of an image that counts its voxels."""

        def __init__(self) -> None:
            super().__init__()
            self.divisor, self.seen, self.allowed = divisor, [], Everywhere()

        def delta(self, image: torch.Tensor, *_: Any) -> torch.Tensor:
            self.seen.append((int(image[0, 0, 0, 0]), image.shape[2]))
            return torch.ones_like(image)

    perturber, image = Here(), np.arange(extent, dtype=np.float32)[None, :, None].repeat(64, 2)
    noise = generate_noise(perturber, image, "a", window_voxels=64**2)
    assert np.allclose(noise, 1)
    windows = sorted(set(perturber.seen))
    assert all(start % divisor == 0 for start, _ in windows), "they agree in phase"
    assert all(size <= 64 for _, size in windows)
    steps = [after - before for (before, _), (after, _) in itertools.pairwise(windows)]
    assert max(steps) <= 3 / 4 * windows[0][1], "neighbors overlap"
    assert sum(size for _, size in windows) <= 1.5 * extent
