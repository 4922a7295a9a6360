# SPDX-License-Identifier: Apache-2.0
"""What surrogates are trained on, and in which order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from torch.utils.data import RandomSampler

from monai_unlearnable.crypto import OwnerKey, secret_seed
from monai_unlearnable.data import inspect_cases, load_cases
from monai_unlearnable.intensity import DtypeWindow, PercentileWindow
from monai_unlearnable.training import EpochLoader, training_transforms
from monai_unlearnable.utils.seeding import derive_seed
from tests.helpers import stored_voxels, write_class_folders, write_dataset


def drawn(
    weights: list[float] | None = None, seed: int = 0, epochs: int = 2, batches: int = 5, begun: int = 0
) -> list[list[int]]:
    """The cases of each epoch, of four; of a run that goes on after the epochs that it had begun."""
    loader = EpochLoader(Dataset([{"case": index} for index in range(4)]), 3, batches, seed, weights)
    found: list[list[int]] = []
    engine = Engine(lambda engine, batch: found[-1].extend(batch["case"].tolist()))
    loader.attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: found.append([]))
    if begun:
        engine.load_state_dict({"epoch": begun, "max_epochs": epochs, "epoch_length": batches})
    engine.run(loader, max_epochs=epochs, epoch_length=batches)
    return found


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 2.0, 4.0]])
def test_cases_depend_on_seed_and_epoch_alone(weights: list[float] | None) -> None:
    torch.manual_seed(1)
    first = drawn(weights)
    torch.manual_seed(2)
    assert drawn(weights) == first and drawn(weights, seed=1) != first
    assert [len(epoch) for epoch in first] == [15, 15] and first[0] != first[1]
    assert drawn(weights, epochs=1) == first[:1]


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("batches", [4, 5, 8])  # of three cases each: with and without a remainder of the four
def test_a_resumed_run_goes_on_with_the_same_cases(weights: list[float] | None, batches: int) -> None:
    whole = drawn(weights, epochs=4, batches=batches)
    for begun in (1, 2, 3):
        assert drawn(weights, epochs=4, batches=batches, begun=begun) == whole[begun:]


def test_public_seeds_order_cases_as_always_and_secret_ones_otherwise() -> None:
    usual = torch.Generator().manual_seed(derive_seed(3, "epoch", 1, 0))
    data = range(4)
    assert drawn(seed=3, epochs=1) == [list(RandomSampler(data, num_samples=15, generator=usual))]
    first, second = (secret_seed(3, OwnerKey(bytes([number] * 32))) for number in (1, 2))
    assert drawn(seed=first) == drawn(seed=first) != drawn(seed=second)


def test_all_cases_are_drawn_alike_unless_they_have_weights() -> None:
    counts = Counter(drawn(epochs=1, batches=20)[0])
    assert set(counts.values()) == {15}
    counts = Counter(drawn([0.0, 1.0, 1.0, 2.0], epochs=1, batches=200)[0])
    assert 0 not in counts and counts[3] == pytest.approx(300, abs=50) and counts[1] == pytest.approx(150, abs=40)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("patch", [8, 16, 32])
def test_maps_are_cropped_around_the_region_or_padded(tmp_path: Path, dims: int, patch: int) -> None:
    cases = load_cases(write_dataset(tmp_path, dims))
    summary = inspect_cases(cases, PercentileWindow())
    (sample,) = training_transforms(summary, PercentileWindow(), [patch] * dims)(cases[0].to_dict())
    assert set(sample) == {"image", "label", "step", "case_id"} and sample["case_id"] == "images/a"
    assert sample["image"].shape == sample["label"].shape == (1, *[patch] * dims)
    assert (
        sample["image"].min() >= 0
        and sample["image"].max() <= 1
        and set(sample["label"].unique().tolist()) <= {0, 1, 2}
    )
    assert (sample["label"] > 0).any()


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_one_class_are_resized(tmp_path: Path, dims: int) -> None:
    cases = load_cases(write_class_folders(tmp_path, dims, "uint8", suffix=".png" if dims == 2 else ".nii.gz"))
    summary = inspect_cases(cases, DtypeWindow())
    sample = training_transforms(summary, DtypeWindow(), [7] * dims)(cases[-1].to_dict())
    assert sample["image"].shape == (1, *[7] * dims) and sample["label"] == 2
    whole = stored_voxels(cases[-1].root / cases[-1].images[0]).mean() / 255
    assert float(sample["image"].mean()) == pytest.approx(whole, abs=0.02)
