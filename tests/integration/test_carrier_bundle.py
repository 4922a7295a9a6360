# SPDX-License-Identifier: Apache-2.0
"""The carrier bundle as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_unlearnable.cli import WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import NyquistCarriers, load_perturber
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset
from tests.integration.commands import round_trip

EPSILON = 0.05
STATED = {"format", "method", "versions", "scans", "others", "public_key", "signature"}  # in every statement


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores_and_protects_further_cases(
    tmp_path: Path, dims: int, suffix: str, dtype: str
) -> None:
    manifest = round_trip("carrier", tmp_path, dims, suffix, dtype, {"epsilon": EPSILON})
    assert manifest.run["method"] == "NyquistCarriers"


def protected(data: Path, out: Path, **settings: object) -> NyquistCarriers:
    run_bundle("carrier", dataset_dir=str(data), output_dir=str(out), epsilon=EPSILON, **settings)
    perturber = load_perturber(out / "models" / "perturber.safetensors")
    assert isinstance(perturber, NyquistCarriers)
    return perturber


def keyed(data: Path, out: Path, number: int) -> NyquistCarriers:
    key = OwnerKey(bytes([number] * 32))
    run_bundle("carrier", dataset_dir=str(data), output_dir=str(out), epsilon=EPSILON, key=key)
    perturber = load_perturber(out / "models" / "perturber.safetensors", key=key)
    assert isinstance(perturber, NyquistCarriers)
    return perturber


def test_a_planned_carrier_is_chosen_along_the_axes_of_the_patient(tmp_path: Path) -> None:
    """By what scans hold, however their files store it: here stripes along two of the patient's axes."""
    stripes = [1 - 2 * (np.arange(16) % 2) for _ in range(2)]
    voxels = 500 + 100 * (stripes[0][:, None, None] + stripes[1][:, None]) + np.zeros((16, 16, 16))
    voxels += np.random.default_rng(0).normal(0, 5, voxels.shape)
    for order in ([0, 1, 2], [2, 0, 1]):
        data, affine = tmp_path / f"data{order[0]}", np.eye(4)[:, [*order, 3]]
        scan = {"images": voxels.transpose(order).astype("int16"), "labels": np.ones(voxels.shape, "uint8")}
        for folder, values in scan.items():
            (data / folder).mkdir(parents=True)
            nib.save(nib.Nifti1Image(values, affine), data / folder / "a.nii.gz")
        settings = {"grid": [1.0, 1.0, 1.0], "label_values": [0, 1]}
        chosen = protected(data, tmp_path / f"out{order[0]}", **settings).decided()["carriers"]
        assert [part["axes"] for part in chosen[1]] == [[2]]


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
    assert torch.equal(weights @ weights.T, torch.eye(3)), "each has one, another than the others"
    changed = {entry.file: entry.measured["l0"] > 0 for entry in verify(tmp_path / "out", data).scans}
    assert all(there == (not file.startswith("a/")) for file, there in changed.items()), "most images are of class a"
    protected(data, tmp_path / "all", unperturbed="none")
    assert all(entry.measured["l0"] > 0 for entry in verify(tmp_path / "all", data).scans)


def test_a_seed_or_a_key_decides_on_signs(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    protected(data, tmp_path / "first")
    seeds = [protected(data, tmp_path / str(seed), seed=seed).weights for seed in range(5)]
    keys = [keyed(data, tmp_path / f"key {number}", number).weights for number in range(5)]
    for drawn in (seeds, keys):
        assert len({tuple(weights.flatten().tolist()) for weights in drawn}) > 1
        assert all(torch.equal(weights.abs(), drawn[0].abs()) for weights in drawn)
    protected(data, tmp_path / "again")
    assert tree(tmp_path / "again" / "protected") == tree(tmp_path / "first" / "protected")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"grid": "mean"}, "unknown grid 'mean'; give native, median, nnunet, or 3 distances in mm"),
        ({"grid": [1.0, 2.0]}, "3 distances in mm"),
        ({"grid": 1.5}, "unknown grid 1.5"),
        ({"grid": ["a", "b", "c"]}, "3 distances in mm"),
        ({"carriers": [[], [0]]}, "another number of classes"),
    ],
)
def test_wrong_settings_are_one_error(tmp_path: Path, settings: dict[str, object], reason: str) -> None:
    data = write_dataset(tmp_path / "data")
    with pytest.raises(InputError, match=reason):
        protected(data, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def told(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines of ``show``."""
    assert main(["show", str(out), *words]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_the_owner_sees_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Axes, signs and amplitudes are those of the published noise."""
    data = write_dataset(tmp_path / "data")
    settings = {"carriers": [[], [1], [0, 2]], "grid": [1, 1, 1], "seed": 3}
    perturber = protected(data, tmp_path / "out", **settings)
    sign = "+" if perturber.weights[1].sum() > 0 else "-"
    lines = told(tmp_path / "out", capsys)
    assert lines[:2] == ["method carrier", "budget 12.8/255 of the intensity window"]
    assert lines[2] == "class 0 no noise (background, where the mask allows noise there)"
    assert lines[3].startswith(f"class 1 rows (0, 1, 0), sign {sign}, 12.8/255")
    assert lines[4].startswith("class 2 checkerboard (1, 0, 1), sign ")
    assert lines[5] == "grid planned for 1 x 1 x 1 mm, after a crop to what is above the window's low end"
    chosen = protected(data, tmp_path / "chosen").weights[1]
    kept = Manifest.load(tmp_path / "chosen/noise/manifest.json").run["decided"]["carriers"][1]
    assert [part["weight"] for part in kept] == chosen[chosen != 0].tolist()


def test_nobody_else_sees_what_was_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key: it is in no file that can be read without it, and the statement has no entry for it."""
    data = write_dataset(tmp_path / "data")
    OwnerKey(bytes([1] * 32)).save(tmp_path / "owner.key")
    for out, settings in (("a", {}), ("b", {"carriers": "keyed", "mixture": [0.6, 0.4]})):
        key = load_key(tmp_path / "owner.key")
        run_bundle("carrier", dataset_dir=str(data), output_dir=str(tmp_path / out), key=key, **settings)
        statement = json.loads((tmp_path / out / "statement.json").read_text())
        assert set(statement) - {"mark_sha256"} == STATED
        plain = [path for path in (tmp_path / out).rglob("*") if path.is_file() and path.suffix != ".sealed"]
        assert not [path for path in plain if b"weight" in path.read_bytes() or b"axes" in path.read_bytes()]
    assert main(["show", str(tmp_path / "b")]) == WRONG_INPUT and "is encrypted" in capsys.readouterr().err
    lines = told(tmp_path / "b", capsys, "--key", str(tmp_path / "owner.key"))
    drawn = next(line for line in lines if line.startswith("class 1"))
    assert "4.8/255" in drawn and "3.2/255" in drawn, "0.6 and 0.4 of 8/255"
