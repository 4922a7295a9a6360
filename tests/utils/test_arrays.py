# SPDX-License-Identifier: Apache-2.0
"""Work on pieces and boxes gives what work on the whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from monai_unlearnable.utils import arrays
from monai_unlearnable.utils.arrays import bounding_box, pieces, piecewise

SHAPES = [(1, 7, 5), (3, 4, 6), (1, 5, 4, 3), (2, 3, 4, 5)]


@pytest.mark.parametrize("piece", [1, 2**18], ids=["pieces", "whole"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
def test_elementwise_functions(shape: tuple[int, ...], order: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "PIECE", piece)
    voxels = np.asarray(np.random.default_rng(0).integers(-9, 9, shape), np.int16, order=order)
    result = piecewise(lambda part: part * np.float64(0.3) - 1, voxels, np.float32)
    assert result.tobytes() == (voxels * np.float64(0.3) - 1).astype(np.float32).tobytes()
    assert result.strides == tuple(2 * stride for stride in voxels.strides), "as the voxels lie in memory"
    assert (len(list(pieces(voxels))) > 1) == (piece == 1)


@pytest.mark.parametrize("shape", [(6,), (5, 7), (4, 5, 6), (2, 3, 4, 5)])
def test_box_of_what_is_true(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        support = rng.random(shape) < 0.04
        voxels = np.argwhere(support)
        if not len(voxels):
            assert support[bounding_box(support)].size == 0
            continue
        expected = [slice(low, high + 1) for low, high in zip(voxels.min(0), voxels.max(0), strict=True)]
        assert list(bounding_box(support)) == expected
    assert bounding_box(np.zeros(shape, bool)) == (slice(0, 0),) * len(shape)
