# SPDX-License-Identifier: Apache-2.0
"""The remarks on noise that is larger than what labeled voxels differ by, and on windows that hold nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import inspect_cases, load_cases, nnunet_spacing, read_case
from monai_unlearnable.data.spread import exceeding_spread
from monai_unlearnable.intensity import FixedWindow, PercentileWindow, WindowRule
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.run import plan
from monai_unlearnable.utils.descriptions import describe
from tests.helpers import SHAPES, protect, two_classes, write_dataset, write_nifti

WINDOW = FixedWindow(0, 1000)


def write_cases(root: Path, **spreads: float) -> Path:
    """Cases whose labeled voxels are 500 plus and minus a number, beside others from 0 to 1000."""
    label = np.zeros(SHAPES[3], np.uint8)
    label[2:6, 4:8, 2:6] = 1
    for name, spread in spreads.items():
        voxels = np.random.default_rng(0).uniform(0, 1000, label.shape).astype(np.float32)
        voxels[label > 0] = 500 + spread * np.where(np.arange(64) % 2, 1, -1)
        write_nifti(root / f"images/{name}.nii.gz", voxels)
        write_nifti(root / f"labels/{name}.nii.gz", label)
    return root


def test_scans_whose_noise_exceeds_the_spread_are_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = write_cases(tmp_path / "clean", a=60, b=20, c=49)
    with caplog.at_level(logging.WARNING):
        protect(clean, tmp_path / "out", RandomNoise(0.05), WINDOW, Budget(0.05))
    assert [record.getMessage() for record in caplog.records] == [
        "the noise may exceed the spread of the labeled voxels in 2 of 3 scans, such as images/b: a change of 50, "
        "a standard deviation of 20; give a narrower --window or a smaller --epsilon"
    ]


def test_the_spread_is_that_of_the_labeled_voxels_with_data(tmp_path: Path) -> None:
    (case,) = load_cases(write_cases(tmp_path, a=20))
    loaded = read_case(case, WINDOW, [0, 1])
    assert loaded.label is not None
    assert inspect_cases([case], WINDOW, budget=Budget(0.0201)).exceeding == exceeding_spread(loaded, 0.0201)
    assert exceeding_spread(loaded, 0.0201) == {"images/a": "a change of 20.1, a standard deviation of 20"}
    assert not exceeding_spread(loaded, 0.0199)
    loaded.label[...] = 1  # all voxels: far more of a spread
    assert not exceeding_spread(loaded, 0.05)
    loaded.label[...] = 0
    assert not exceeding_spread(loaded, 0.05)


@pytest.mark.parametrize(
    ("window", "is_blank"),
    [
        (FixedWindow(5000, 9000), True),
        (FixedWindow(-900, -10), True),
        (FixedWindow(-900, 950), False),
        (FixedWindow(0, 1e4), False),
        (PercentileWindow(), False),
    ],
)
@pytest.mark.parametrize(("dtype", "slope"), [("int16", None), ("uint16", -1.0), ("float32", None)])
def test_a_window_that_holds_nothing_of_a_scan_is_told(
    tmp_path: Path, window: WindowRule, is_blank: bool, dtype: str, slope: float | None
) -> None:
    stored = np.arange(64, 128).reshape(8, 8).astype(dtype)
    write_nifti(tmp_path / "images/a.nii", stored, slope=slope, inter=0 if slope is None else 1000)
    write_nifti(tmp_path / "labels/a.nii", two_classes((8, 8)))
    summary = inspect_cases(load_cases(tmp_path), window)
    assert list(summary.blank) == ["images/a"] * is_blank
    told = plan("lattice", tmp_path, tmp_path.parent / f"{tmp_path.name}_out", window=describe(window)).page()
    assert ("the window holds no voxel of 1 of 1 scans, such as images/a, which is from" in told) == is_blank


@pytest.mark.parametrize(("rows", "spacing"), [(30, 4.2), (20, 5.0)])
def test_thick_slices_are_planned_by_the_voxels_that_nnunet_keeps(tmp_path: Path, rows: int, spacing: float) -> None:
    voxels = np.arange(1, 31, dtype=np.uint8)[:, None, None] * np.ones((30, 40, 8), np.uint8)
    voxels[rows:] = 0
    for thickness in (4, 5, 6):
        affine = np.diag([1.0, 1, thickness, 1])
        for folder, values in (("images", voxels), ("labels", two_classes(voxels.shape))):
            file = tmp_path / folder / f"{thickness}.nii"
            file.parent.mkdir(exist_ok=True)
            nib.Nifti1Image(values, affine).to_filename(file)
    summary = inspect_cases(load_cases(tmp_path), WINDOW)
    assert nnunet_spacing(summary.grids) == pytest.approx((1, 1, spacing))


def test_usual_noise_is_not_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dataset(tmp_path / "clean")
    with caplog.at_level(logging.WARNING):
        protect(tmp_path / "clean", tmp_path / "out", RandomNoise(8 / 255), budget=Budget(8 / 255))
    assert not caplog.records
