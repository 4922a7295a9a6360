# SPDX-License-Identifier: Apache-2.0
"""Real scans, where they are at hand: three hippocampus volumes and three nuclei pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable import protect
from monai_unlearnable.budget import Budget
from monai_unlearnable.data import inspect_cases, load_cases, read_scan
from monai_unlearnable.intensity import DtypeWindow, PercentileWindow
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from tests.helpers import raw_bytes, small_umed, stored_voxels, tree

SETS = {
    "hippocampus": ("labels", 3, PercentileWindow(), (0, 1, 2)),
    "nuclei": ("masks", 2, DtypeWindow(), (0, 255)),
}


@pytest.fixture(scope="module", params=SETS)
def subset(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """The first three cases of a set, copied: the originals stay out of reach."""
    labels, dims, window, values = SETS[request.param]
    if not (real_data / request.param).is_dir():
        pytest.skip(f"no folder {request.param} in {real_data}")
    root = tmp_path_factory.mktemp(request.param) / "clean"
    for folder in ("images", labels):
        (root / folder).mkdir(parents=True)
        for path in sorted((real_data / request.param / folder).iterdir())[:3]:
            shutil.copyfile(path, root / folder / path.name)
    return root, dims, window, values


@pytest.mark.data
def test_protect_verify_apply_restore(subset, tmp_path: Path) -> None:
    root, dims, window, values = subset
    before, cases, out = tree(root), load_cases(root), tmp_path / "out"
    assert inspect_cases(cases, window, channels=1).label_values == values
    manifest = Publication(cases, small_umed(dims), out, window, Budget(8 / 255), values).run()
    assert len(manifest.scans) == 3 and tree(root) == before
    for entry in manifest.scans:
        assert 0 < entry.measured["linf"] <= 8 / 255 + 1e-6 and entry.measured["psnr"] > 30
        assert 0 < entry.measured["l0"] < 0.5
    verify(out, root)
    apply_stored(out / "noise", root, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    restore(out, tmp_path / "back")
    for name in before:
        same = raw_bytes if ".nii" in name else lambda path: stored_voxels(path).tobytes()
        assert same(tmp_path / "back" / name) == same(root / name)


@pytest.mark.data
def test_noise_stays_in_the_region(subset, tmp_path: Path) -> None:
    root, dims, window, values = subset
    case = load_cases(root)[0]
    Publication([case], small_umed(dims), tmp_path, window, Budget(8 / 255), values).run()
    change = stored_voxels(tmp_path / "protected" / case.images[0]) != stored_voxels(root / case.images[0])
    label = stored_voxels(root / case.label)
    assert change.any() and not (change & (np.squeeze(label) == 0)).any()


@pytest.mark.data
def test_a_set_of_mixed_types_at_default_settings(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "hippocampus").is_dir():
        pytest.skip(f"no folder hippocampus in {real_data}")
    firsts: dict[str, Path] = {}
    for path in sorted((real_data / "hippocampus/images").iterdir()):
        firsts.setdefault(read_scan(path).voxels.dtype.name, path)
    assert {"uint8", "float32"} <= firsts.keys()
    for path in firsts.values():
        for folder in ("images", "labels"):
            (tmp_path / "clean" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parents[1] / folder / path.name, tmp_path / "clean" / folder / path.name)
    manifest = protect("lattice", tmp_path / "clean", tmp_path / "out")
    for entry in manifest.scans:
        rule = DtypeWindow() if entry.quantization.dtype == "|u1" else PercentileWindow()
        assert entry.window == read_scan(tmp_path / "clean" / entry.file).window(rule)
        assert 0 < entry.measured["linf"] <= entry.budget.epsilon + 1e-6
    verify(tmp_path / "out", tmp_path / "clean")
