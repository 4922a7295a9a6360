# SPDX-License-Identifier: Apache-2.0
"""Series whose storage differs from slice to slice (PET, Philips MR), from the reader to the restored files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases, read_case, read_scan
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report.planes import cut_planes
from monai_unlearnable.transforms import ApplyNoise, GenerateNoise, LoadScan, RemoveNoise
from tests import dicom
from tests.helpers import SHAPES, protect, random_image, tree, two_classes

SLOPES = np.array([0.5, 4, 1, 0.25, 2, 40, 1, 1, 3])
PADDING = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])


def write_pet(root: Path) -> Path:
    """A labeled series whose slices have slopes and padding of their own; the scale of one is too coarse for noise."""

    def change(index: int, ds: Any) -> None:
        ds.RescaleSlope, ds.RescaleIntercept, ds.PixelPaddingValue = str(SLOPES[index]), "-10", int(PADDING[index])

    physical = np.abs(random_image(SHAPES[3], "float32"))
    stored = np.rint(1000 * physical / physical.max() / SLOPES).astype(np.int16)
    stored[:2] = PADDING
    dicom.write_series(root / "images/a", stored, change=change)
    dicom.write_label(root / "images/a", root / "labels/a.nii.gz", two_classes(SHAPES[3]))
    return root


@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_each_slice_keeps_to_the_budget_on_its_own_scale(tmp_path: Path, fraction: float) -> None:
    clean, budget = write_pet(tmp_path / "clean"), Budget(8 / 255, fraction=fraction)
    manifest = protect(clean, tmp_path / "out", RandomNoise(8 / 255, Everywhere()), AutoWindow(), budget)
    (entry,) = manifest.scans
    before, after = (read_scan(root / "images/a") for root in (clean, tmp_path / "out/protected"))
    assert before.quantization == after.quantization == entry.quantization
    assert entry.quantization.slope == tuple(SLOPES) and entry.quantization.padding_low == tuple(PADDING)
    steps = np.abs(after.voxels.astype(int) - before.voxels)[0]
    limit = 8 / 255 * (entry.window.high[0] - entry.window.low[0])
    assert (steps * SLOPES <= limit * (1 + 1e-6)).all()
    most = steps.max(axis=(0, 1))
    if fraction == 1:
        assert np.array_equal(most, np.floor(limit / SLOPES)) and most[5] == 0
    assert (before.voxels == PADDING).any() and np.array_equal(before.voxels == PADDING, after.voxels == PADDING)
    assert (steps > 0).sum() <= fraction * (~before.nodata).sum()
    assert entry.measured["linf"] == pytest.approx((steps * SLOPES).max() / limit * 8 / 255)
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    assert {k: v for k, v in tree(tmp_path / "back").items() if k != "datalist.json"} == tree(clean)


def test_transforms_and_pictures_know_the_scale_of_each_slice(tmp_path: Path) -> None:
    clean = write_pet(tmp_path / "clean")
    manifest = protect(clean, tmp_path / "out", RandomNoise(8 / 255, Everywhere()), AutoWindow(), Budget(8 / 255))
    before, after = (LoadScan()(root / "images/a") for root in (clean, tmp_path / "out/protected"))
    store = NoiseStore(tmp_path / "out/noise")
    assert bool((ApplyNoise(store)(before, "images/a") == after).all())
    assert bool((RemoveNoise(store)(after, "images/a") == before).all())
    perturber = RandomNoise(8 / 255, Everywhere())
    generated = GenerateNoise(perturber, AutoWindow(), Budget(8 / 255))(before, case_id="images/a")
    assert bool((generated == after).all())
    scans = [read_scan(root / "images/a") for root in (clean, tmp_path / "out/protected")]
    window = manifest.scans[0].window
    (case,) = load_cases(clean)
    units = [scan.unit(window) for scan in scans]
    assert np.array_equal(read_case(case, AutoWindow()).image, units[0])
    seen = [plane.scan.max() for plane in cut_planes(*scans, two_classes(SHAPES[3])[None], window)]
    assert max(seen) <= units[0].max() + 1e-6
    changes = [np.abs(plane.difference).max() for plane in cut_planes(*scans, None, window)]
    assert 0 < max(changes) <= 8 / 255 * (1 + 1e-6)
