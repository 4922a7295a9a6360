# SPDX-License-Identifier: Apache-2.0
"""The voxshield bundle as people run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.commands import goes_on_and_tells_settings_apart, round_trip

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
    others = ({"seed": 1}, {"slice_weight": 0}, {"slice_axis": 0})
    goes_on_and_tells_settings_apart("voxshield", tmp_path, QUICK, *others)
