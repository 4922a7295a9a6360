# SPDX-License-Identifier: Apache-2.0
"""Voxels that hold no data, from the reader to the restored file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases, read_case, read_scan
from monai_unlearnable.intensity import FixedWindow, PercentileWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.transforms import ApplyNoise, GenerateNoise, LoadScan, RemoveNoise, ScaleToWindow
from monai_unlearnable.victims.tasks import LoadImages
from tests.helpers import SHAPES, protect, random_image, stored_voxels, two_classes, write_nifti

LOWEST = {"<i2": -(2**15), "<f4": np.finfo("f4").min, ">f8": np.finfo("f8").min}


def write_marked(root: Path, dtype: str, mark: float) -> Path:
    """Two cases with a frame of voxels without data, which the label reaches into."""
    for seed, name in enumerate(("a", "b")):
        voxels = random_image(SHAPES[3], np.dtype(dtype).name, seed).astype(dtype)
        voxels[:3], voxels[..., -1] = mark, mark
        write_nifti(root / "images" / f"{name}.nii", voxels)
        write_nifti(root / "labels" / f"{name}.nii", np.roll(two_classes(SHAPES[3]), -4, axis=0))
    return root


@pytest.mark.parametrize(
    ("dtype", "mark"),
    [("<f4", np.nan), ("<f4", np.inf), (">f8", -np.inf), ("<f4", -3024), ("<i2", -3024), *LOWEST.items()],
)
@pytest.mark.parametrize("fraction", [1.0, 0.05])
def test_protect_verify_restore(tmp_path: Path, dtype: str, mark: float, fraction: float) -> None:
    clean = write_marked(tmp_path / "clean", dtype, mark)
    manifest = protect(clean, tmp_path / "out", RandomNoise(0.05), budget=Budget(0.05, fraction=fraction))
    for entry in manifest.scans:
        before, after = (read_scan(root / entry.file) for root in (clean, tmp_path / "out/protected"))
        assert np.array_equal(before.nodata, after.nodata) and before.nodata.any()
        assert after.voxels[before.nodata].tobytes() == before.voxels[before.nodata].tobytes()
        assert np.isfinite([*entry.window.low, *entry.window.high, *entry.measured.values()]).all()
        assert 0 < entry.measured["l0"] <= fraction
        assert entry.measured["nodata"] == pytest.approx(before.nodata.mean())
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/images/a.nii").read_bytes() == (clean / "images/a.nii").read_bytes()


def test_figures_of_earlier_releases_counted_what_is_no_data(tmp_path: Path, monkeypatch: Any) -> None:
    clean = write_marked(tmp_path / "clean", "<i2", -(2**15))
    monkeypatch.setattr(publication, "measure_fidelity", partial(measure_fidelity, omit_nodata=False))
    manifest = protect(clean, tmp_path / "out", RandomNoise(0.05))
    assert "nodata" not in manifest.scans[0].measured
    verify(tmp_path / "out", clean)


@pytest.mark.parametrize(("dtype", "mark"), [("<f4", np.nan), ("<f4", np.inf), *LOWEST.items()])
def test_no_network_sees_what_is_no_data(tmp_path: Path, dtype: str, mark: float) -> None:
    case = load_cases(write_marked(tmp_path, dtype, mark))[0]
    path = case.root / case.images[0]
    scan, rule = read_scan(path), PercentileWindow()
    image = read_case(case, rule).image
    assert np.isfinite(image).all() and (image[scan.nodata] == 0).all()
    scaled, _ = ScaleToWindow(rule)(LoadScan(np.float64)(path))
    assert np.allclose(scaled, image, atol=1e-6)
    seen = LoadImages("image")({"image": path})["image"].numpy()
    assert np.isfinite(seen).all() and (seen[scan.nodata] == seen[~scan.nodata].min()).all()
    assert np.array_equal(seen[~scan.nodata], scan.physical()[~scan.nodata])


@pytest.mark.parametrize(("dtype", "mark"), [("<f4", np.nan), ("<f4", -np.inf), *LOWEST.items()])
def test_transforms_leave_what_is_no_data(tmp_path: Path, dtype: str, mark: float) -> None:
    clean = write_marked(tmp_path / "clean", dtype, mark)
    protect(clean, tmp_path / "out", RandomNoise(0.05))
    store = NoiseStore(tmp_path / "out/noise")
    before, after = (LoadScan(np.float64)(root / "images/a.nii") for root in (clean, tmp_path / "out/protected"))
    added = ApplyNoise(store)(before, "images/a")
    assert added.numpy().tobytes() == after.numpy().tobytes()
    assert RemoveNoise(store)(added, "images/a").numpy().tobytes() == before.numpy().tobytes()
    generate = GenerateNoise(RandomNoise(0.05, Everywhere()), FixedWindow(0, 100), Budget(0.05))
    generated = generate(before, case_id="images/a")
    nodata = torch.as_tensor(read_scan(clean / "images/a.nii").nodata)
    same = generated[nodata].numpy().tobytes() == before[nodata].numpy().tobytes()
    assert same and bool((generated[~nodata] != before[~nodata]).any())


def test_noise_of_a_scan_with_nan_is_that_of_the_scan_without(tmp_path: Path) -> None:
    clean = write_marked(tmp_path / "clean", "<f4", np.nan)
    plain = write_marked(tmp_path / "plain", "<f4", 0)
    for name, root in (("out", clean), ("other", plain)):
        protect(root, tmp_path / name, RandomNoise(0.05), FixedWindow(0, 1000))
    marked, other = (stored_voxels(tmp_path / name / "protected/images/a.nii") for name in ("out", "other"))
    assert np.array_equal(marked[~np.isnan(marked)], other[~np.isnan(marked)])
