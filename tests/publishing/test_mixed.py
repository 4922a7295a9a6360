# SPDX-License-Identifier: Apache-2.0
"""Sets of mixed types: each scan is windowed, and so protected, as in a set of its own type."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable import protect, restore, verify
from monai_unlearnable.data import read_scan
from monai_unlearnable.intensity import AutoWindow, DtypeWindow, PercentileWindow
from monai_unlearnable.noise import Manifest
from tests.helpers import SHAPES, raw_bytes, tree, two_classes, write_nifti


def write_mixed(root: Path, **dtypes: str) -> Path:
    """Cases of several types; small values in 8 bits, larger ones in others."""
    for seed, (name, dtype) in enumerate(dtypes.items()):
        values = np.random.default_rng(seed).random(SHAPES[3]) * (200 if dtype == "uint8" else 1500)
        write_nifti(root / f"images/{name}.nii.gz", values.astype(dtype))
        write_nifti(root / f"labels/{name}.nii.gz", two_classes(SHAPES[3]))
    return root


@pytest.mark.parametrize("other", ["uint16", "float32", "int16"])
def test_each_scan_of_a_mixed_set_is_protected_as_in_a_set_of_its_own(tmp_path: Path, other: str) -> None:
    clean = write_mixed(tmp_path / "clean", a="uint8", b=other)
    manifest = protect("lattice", clean, tmp_path / "out")
    assert manifest.run["window"]["_target_"].endswith(".AutoWindow")
    for entry, rule in zip(manifest.scans, (DtypeWindow(), PercentileWindow()), strict=True):
        scan = read_scan(clean / entry.file)
        assert entry.window == scan.window(rule) and entry.measured["linf"] <= entry.budget.epsilon + 1e-9
    width = manifest.scans[1].window.high[0]
    assert 1300 < width < 1500  # of what is there, not of what the type could hold
    for name in ("a", "b"):
        own = tmp_path / name
        for kind in ("images", "labels"):
            (own / kind).mkdir(parents=True)
            shutil.copy(clean / kind / f"{name}.nii.gz", own / kind)
        protect("lattice", own, tmp_path / f"out-{name}")
        alone, mixed = (tree(tmp_path / out / "protected") for out in (f"out-{name}", "out"))
        assert alone[f"images/{name}.nii.gz"] == mixed[f"images/{name}.nii.gz"]
    verify(tmp_path / "out", clean)
    restore(tmp_path / "out", tmp_path / "back")
    for name in ("a", "b"):
        image = f"images/{name}.nii.gz"
        assert raw_bytes(tmp_path / "back" / image) == raw_bytes(clean / image)


@pytest.mark.parametrize(("dtype", "rule"), [("uint8", DtypeWindow()), ("uint16", PercentileWindow())])
def test_sets_of_one_type_are_protected_as_by_the_rule_for_it(tmp_path: Path, dtype: str, rule: object) -> None:
    clean = write_mixed(tmp_path / "clean", a=dtype, b=dtype)
    protect("lattice", clean, tmp_path / "out")
    described = {"_target_": f"monai_unlearnable.intensity.{type(rule).__name__}"}
    protect("lattice", clean, tmp_path / "named", window=described)
    assert tree(tmp_path / "out/protected") == tree(tmp_path / "named/protected")
    assert Manifest.load(tmp_path / "out/noise/manifest.json").run["window"] == {
        "_target_": f"monai_unlearnable.intensity.{AutoWindow.__name__}"
    }
