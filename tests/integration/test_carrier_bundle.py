# SPDX-License-Identifier: Apache-2.0
"""The carrier bundle as people run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import NyquistCarriers, load_perturber
from monai_unlearnable.publishing.run import run_bundle
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset
from tests.integration.commands import round_trip

EPSILON = 0.05


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores_and_protects_further_cases(
    tmp_path: Path, dims: int, suffix: str, dtype: str
) -> None:
    round_trip("carrier", tmp_path, dims, suffix, dtype, {"epsilon": EPSILON})


def protected(data: Path, out: Path, **settings: object) -> NyquistCarriers:
    run_bundle("carrier", dataset_dir=str(data), output_dir=str(out), epsilon=EPSILON, **settings)
    perturber = load_perturber(out / "models" / "perturber.safetensors")
    assert isinstance(perturber, NyquistCarriers)
    return perturber


def test_every_voxel_of_a_region_changes_and_no_other(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    protected(data, tmp_path / "out")
    for name in ("a", "b"):
        clean, noisy = (stored_voxels(root / f"images/{name}.nii.gz") for root in (data, tmp_path / "out/protected"))
        changed = clean.astype(int) != noisy
        assert (
            np.mean(changed == (stored_voxels(data / f"labels/{name}.nii.gz") > 0)) > 0.99
        )  # few are at an end of the type


def test_classes_of_whole_images_differ_and_one_has_no_noise(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data", counts=(3, 2, 2))
    weights = protected(data, tmp_path / "out").weights.abs()
    assert not weights[0].any(), "the class that most images have"
    assert weights[1].sum() == weights[2].sum() == 1 and not (weights[1] * weights[2]).any()
    assert protected(data, tmp_path / "all", unperturbed="none").weights.any(dim=1).all()


def test_a_seed_or_a_key_decides_on_signs(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    OwnerKey(bytes(range(32))).save(tmp_path / "owner.key")
    first = protected(data, tmp_path / "first").weights
    signs = {tuple(protected(data, tmp_path / str(seed), seed=seed).weights.flatten().tolist()) for seed in range(5)}
    assert len(signs) > 1
    run_bundle("carrier", dataset_dir=str(data), output_dir=str(tmp_path / "k"), key=str(tmp_path / "owner.key"))
    keyed = load_perturber(tmp_path / "k/models/perturber.safetensors", key=OwnerKey(bytes(range(32))))
    assert isinstance(keyed, NyquistCarriers) and (keyed.weights.abs() == first.abs()).all()
    protected(data, tmp_path / "again")
    assert tree(tmp_path / "again" / "protected") == tree(tmp_path / "first" / "protected")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"grid": "mean"}, "unknown grid 'mean'; give native, median, nnunet, or 3 distances in mm"),
        ({"grid": [1.0, 2.0]}, "3 distances in mm"),
        ({"carriers": [[], [0]]}, "another number of classes"),
    ],
)
def test_wrong_settings_are_one_error(tmp_path: Path, settings: dict[str, object], reason: str) -> None:
    data = write_dataset(tmp_path / "data")
    with pytest.raises(InputError, match=reason):
        protected(data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
