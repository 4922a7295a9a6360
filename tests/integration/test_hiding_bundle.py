# SPDX-License-Identifier: Apache-2.0
"""The hiding bundle as people run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import read_scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import DeepHiding, load_perturber
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.run import plan, run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.suited import FOR_MAPS
from tests.helpers import tree, write_class_folders, write_dataset

EPSILON = 0.08
QUICK: dict[str, Any] = {
    "epsilon": EPSILON,
    "epochs": 2,
    "epoch_length": 2,
    "batch_size": 4,
    "network_def#blocks": 2,
    "network_def#width": 4,
}


def protect(data: Path, out: Path, **settings: Any) -> Manifest:
    run_bundle("hiding", dataset_dir=str(data), output_dir=str(out), **{**QUICK, **settings})
    return verify(out, data, key=settings.get("key"))


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores_and_protects_further_cases(
    tmp_path: Path, dims: int, suffix: str, dtype: str
) -> None:
    data = write_class_folders(tmp_path / "data", dims, dtype, (3, 2, 2), suffix)
    manifest = protect(data, tmp_path / "out")
    assert manifest.run["method"] == "DeepHiding"
    for entry in manifest.scans:
        spared = entry.file.startswith("a/")  # the largest class
        assert entry.measured["linf"] <= EPSILON + 1e-6 and (entry.measured["l0"] == 0) == spared
    restore(tmp_path / "out", tmp_path / "restored")
    for entry in manifest.scans:
        assert read_scan(tmp_path / "restored" / entry.file).digest() == read_scan(data / entry.file).digest()
    more = write_class_folders(tmp_path / "more", dims, dtype, (3, 2, 2), suffix, first_seed=50)
    checkpoint = str(tmp_path / "out" / "models" / "perturber.safetensors")
    run_bundle("hiding", "apply", dataset_dir=str(more), output_dir=str(tmp_path / "new"), checkpoint=checkpoint)
    assert any(entry.measured["l0"] > 0 for entry in verify(tmp_path / "new", more).scans)


def test_a_seed_gives_the_same_bytes_and_settings_count(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data")

    def run(name: str, **settings: Any) -> dict[str, bytes]:
        protect(data, tmp_path / name, **settings)
        return tree(tmp_path / name / "protected")

    first = run("first")
    assert run("again") == first
    for name, changed in {
        "seed": {"seed": 1},
        "detail": {"detail": 3},
        "training": {"train#trainer#strategy#blur": 0},
        "all": {"unperturbed": "none"},
    }.items():
        assert run(name, **changed) != first


def test_a_key_decides_on_the_pictures(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data")
    drawn = []
    for number in (1, 2):
        key = OwnerKey(bytes([number] * 32))
        protect(data, tmp_path / str(number), key=key)
        perturber = load_perturber(tmp_path / str(number) / "models" / "perturber.safetensors", key=key)
        assert isinstance(perturber, DeepHiding)
        drawn.append(perturber.pictures(perturber.seed))
    assert (drawn[0] - drawn[1]).abs().mean() > 0.2


@pytest.mark.parametrize("look", [protect, lambda data, out: plan("hiding", data, out)])
def test_label_maps_are_refused_before_anything_is_written(tmp_path: Path, look: Any) -> None:
    data = write_dataset(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        look(data, tmp_path / "out")
    assert str(caught.value) == (
        "hiding needs one class for each whole image, and these cases have label maps; "
        f"methods for them are {', '.join(FOR_MAPS)}"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"patch_size": [17, 16]}, "even sizes of more than 4 voxels"),
        ({"detail": 0}, "one half wave at least"),
        ({"train#trainer#strategy#blur": -1}, "blur is negative"),
    ],
)
def test_wrong_settings_are_one_error(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    data = write_class_folders(tmp_path / "data")
    with pytest.raises(InputError, match=reason):
        protect(data, tmp_path / "out", **settings)
