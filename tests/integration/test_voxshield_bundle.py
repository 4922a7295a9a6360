# SPDX-License-Identifier: Apache-2.0
"""The voxshield bundle as people run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.publishing.run import run_bundle
from tests.helpers import tree, write_dataset
from tests.integration.commands import round_trip

QUICK = {"epochs": 2, "epoch_length": 2, "batch_size": 2, "epsilon": 0.05, "network_def#channels": [4, 8, 8, 8]}


@pytest.mark.parametrize(("dims", "suffix", "dtype"), [(3, ".nii.gz", "int16"), (2, ".png", "uint8")])
def test_protects_verifies_restores_and_protects_further_cases(
    tmp_path: Path, dims: int, suffix: str, dtype: str
) -> None:
    manifest = round_trip("voxshield", tmp_path, dims, suffix, dtype, QUICK)
    assert len(manifest.run["config"]["trainers"][0]["penalties"]) == (
        2 if dims == 3 else 1
    )  # no slices, no slice term


def test_a_stopped_run_goes_on_to_the_same_bytes_and_the_slice_term_counts(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")

    def run(name: str, **settings: object) -> dict[str, bytes]:
        run_bundle("voxshield", dataset_dir=str(data), output_dir=str(tmp_path / name), **{**QUICK, **settings})
        return tree(tmp_path / name / "protected")

    whole = run("whole")
    run("stopped")
    (tmp_path / "stopped" / "noise" / "manifest.json").unlink()
    (tmp_path / "stopped" / "noise" / "images" / "b.npz").unlink()
    assert run("stopped") == whole
    assert run("other seed", seed=1) != whole
    assert run("flat", slice_weight=0) != whole
    assert run("other axis", slice_axis=0) != whole
