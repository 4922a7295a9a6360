# SPDX-License-Identifier: Apache-2.0
"""Scans are resampled as nnU-Net does, to the spacing that it chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_unlearnable.data import Grid, nnunet_spacing
from monai_unlearnable.victims import ResampleSpacingd

# Recorded from nnU-Net 2.8.1: shape, spacing before and after, shape after; three voxels and the mean square of an
# image; voxels of each class of a label.
RECORDED = [
    ((12, 10, 9), (1, 1, 1), (1.3, 0.8, 1), (9, 12, 9), (0.11251, -0.43559, -0.08335, 0.40149), (337, 362, 273)),
    ((12, 10, 5), (1, 1, 4), (1.2, 1.2, 3), (10, 8, 7), (0.1189, 0.52861, 0.15798, 0.36411), (245, 172, 143)),
    ((6, 12, 11), (5, 1, 1), (2.5, 1.3, 1), (12, 9, 11), (0.06517, -0.51193, 0.07958, 0.34697), (466, 402, 320)),
    ((9, 9, 9), (1, 1, 1), (1, 1, 3.5), (9, 9, 3), (-0.84147, 0.95261, -0.61012, 0.48703), (77, 99, 67)),
]


@pytest.mark.parametrize(("shape", "own", "target", "size", "values", "counts"), RECORDED)
def test_it_gives_the_numbers_of_nnunet(
    shape: tuple[int, ...],
    own: tuple[float, ...],
    target: tuple[float, ...],
    size: tuple[int, ...],
    values: tuple[float, ...],
    counts: tuple[int, ...],
) -> None:
    index = np.indices(shape)
    image = np.sin(1.3 * index[0] + 0.7 * index[1] ** 1.5 - index[2])[None]
    label = ((index**2).sum(0) // 40 % 3)[None].astype(np.uint8)
    affine = torch.diag(torch.tensor([*own, 1.0], dtype=torch.float64))
    data = {key: MetaTensor(torch.from_numpy(array), affine=affine) for key, array in (("a", image), ("b", label))}
    result = ResampleSpacingd(("a", "b"), target, label_key="b")(data)
    found = result["a"][0].double()
    assert result["a"].shape == result["b"].shape == (1, *size)
    seen = [found[0, 0, 0], found[3, 2, 1], found[-1, -2, -1], found.square().mean()]
    assert [float(value) for value in seen] == pytest.approx(values, abs=2e-5)
    assert tuple(np.bincount(result["b"].numpy().ravel(), minlength=3)) == counts
    assert result["b"].dtype == torch.uint8
    # the outer faces of the volume stay where they are
    for edge in (np.full(3, -0.5), np.full(3, 0.5)):
        before = np.where(edge < 0, -0.5, np.array(shape) - 0.5) * own
        after = result["a"].affine.numpy() @ [*np.where(edge < 0, -0.5, np.array(size) - 0.5), 1]
        assert after[:3] == pytest.approx(before)


def test_equal_spacing_leaves_the_voxels_alone() -> None:
    image = MetaTensor(torch.rand(1, 4, 5, 6), affine=torch.diag(torch.tensor([1.0, 1, 2, 1])))
    assert ResampleSpacingd("a", (1, 1, 2), label_key=None)({"a": image})["a"] is image


def test_target_is_the_median_but_for_thick_slices() -> None:
    def grids(*thick: float, slices: int) -> list[Grid]:
        return [Grid((200, 200, slices), (0.8, 1.0, spacing), (0, 1, 2)) for spacing in thick]

    assert nnunet_spacing(grids(1, 2, 3, slices=30)) == (0.8, 1, 2)
    assert nnunet_spacing(grids(4, 5, 10, 10, 10, slices=30)) == pytest.approx((0.8, 1, 4.4))
    assert nnunet_spacing(grids(4, 5, 10, 10, 10, slices=90)) == (0.8, 1, 10)  # as many voxels as along the others
    assert nnunet_spacing(grids(0.5, 0.5, 4, 4, 4, slices=30)) == (0.8, 1, 1)
    box = ((0, 200), (60, 140), (0, 30))  # what nnU-Net's crop leaves
    cropped = [replace(grid, box=box) for grid in grids(4, 5, 10, 10, 10, slices=30)]
    assert nnunet_spacing(cropped) == (0.8, 1, 10)
    flat = [Grid((20, 30), (1.0, 9.0), (0, 1))]
    assert nnunet_spacing(flat) == (1, 9)
