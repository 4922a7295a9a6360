# SPDX-License-Identifier: Apache-2.0
"""The foresight bundle as people run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import ClasswiseNoise, load_perturber
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import write_dataset
from tests.integration.commands import bundle_words, command, goes_on_and_tells_settings_apart, round_trip

QUICK = {
    "epochs": 2,
    "epoch_length": 2,
    "horizon": 3,
    "advance": 2,
    "cases_per_step": 1,
    "epsilon": 0.05,
    "network_def#width": 4,
}


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores_and_protects_further_cases(
    tmp_path: Path, dims: int, suffix: str, dtype: str
) -> None:
    manifest = round_trip("foresight", tmp_path, dims, suffix, dtype, QUICK)
    assert (
        manifest.run["config"]["trainers"][0]["strategy"]["horizon"] == 3 and manifest.run["method"] == "ClasswiseNoise"
    )


def test_a_stopped_run_goes_on_to_the_same_bytes_and_settings_count(tmp_path: Path) -> None:
    others = ({"seed": 1}, {"horizon": 4}, {"pattern_size": [4, 4, 4]})
    goes_on_and_tells_settings_apart("foresight", tmp_path, QUICK, *others)


@pytest.mark.parametrize(
    ("settings", "voxels", "zero_mean"),
    [
        ({}, 2, False),
        ({"recipe": "mirror"}, 4, True),
        ({"recipe": "nnunet"}, 4, True),
        ({"augmentation#flip": True}, 4, True),
    ],
    ids=str,
)
def test_noise_for_recipes_that_mirror_can_be_symmetric_and_has_no_offset(
    tmp_path: Path, settings: dict[str, object], voxels: int, zero_mean: bool
) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    run_bundle("foresight", dataset_dir=str(data), output_dir=str(out), **QUICK, **settings)
    noise = load_perturber(out / "models" / "perturber.safetensors")
    assert isinstance(noise, ClasswiseNoise) and noise.tile.shape[2:] == (voxels,) * 3
    offset = float(noise.tile.detach().flatten(2).mean(-1).abs().max())
    assert (offset < 1e-4 * noise.epsilon + 1e-6) == zero_mean


def test_an_unknown_recipe_is_one_error(tmp_path: Path) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    with pytest.raises(InputError, match="unknown recipe 'nnUNet'"):
        run_bundle("foresight", dataset_dir=str(data), output_dir=str(out), **QUICK, recipe="nnUNet")
    assert not out.exists()


def test_two_processes_run_as_a_command(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b", "c"))
    command(*bundle_words("foresight", {"dataset_dir": data, "output_dir": tmp_path / "out", **QUICK}), processes=2)
    assert [entry.scan_id for entry in verify(tmp_path / "out", data).scans] == ["images/a", "images/b", "images/c"]
