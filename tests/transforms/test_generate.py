# SPDX-License-Identifier: Apache-2.0
"""Noise made on the fly equals what :class:`Publication` writes, and fits cases that were never seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Flipd, LoadImaged
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import BudgetError, InputError, LabelError, NoiseMismatchError
from monai_unlearnable.intensity import DtypeWindow, PercentileWindow, WindowRule
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.transforms import EncodeLabeld, GenerateNoise, GenerateNoised, LoadScan, LoadScand
from tests.helpers import (
    BUDGET,
    fixed_window,
    protect,
    random_image,
    small_umed,
    two_classes,
    write_dataset,
    write_nifti,
)


@pytest.mark.parametrize(
    ("dims", "dtype", "slope", "window", "precision"),
    [
        (3, "int16", None, PercentileWindow(), np.float32),
        (3, "int16", 0.37, PercentileWindow(), np.float32),
        (3, "uint16", -0.013, PercentileWindow(), np.float64),
        (3, "float32", None, PercentileWindow(), np.float32),
        (3, "float32", 0.1, PercentileWindow(), np.float64),
        (2, "uint8", None, DtypeWindow(), np.float32),
        (2, "int16", None, fixed_window("int16"), np.float32),
    ],
)
def test_equals_the_published_file(
    tmp_path: Path, dims: int, dtype: str, slope: float | None, window: WindowRule, precision: type
) -> None:
    clean, out = write_dataset(tmp_path / "clean", dims, dtype, slope=slope), tmp_path / "out"
    protect(clean, out, small_umed(dims), window, label_values=[0, 1, 2])
    pipeline = Compose(
        [
            LoadScand(["image", "label"], dtype=precision),
            EncodeLabeld("label", [0, 1, 2]),
            GenerateNoised("image", out / "models/perturber.safetensors", window, BUDGET),
        ]
    )
    for case in load_cases(clean):
        done = pipeline(case.to_dict())["image"]
        assert np.array_equal(done.numpy(), LoadScan(precision)(out / "protected" / case.images[0]).numpy())
        assert done.meta["protection"] == {"state": "protected", "case_id": case.case_id}


@pytest.mark.parametrize(("shape", "voxels"), [((90, 70), 32**2), ((41, 38, 35), 16**3)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_unseen_larger_cases_in_windows(tmp_path: Path, shape: tuple[int, ...], voxels: int, dtype: str) -> None:
    write_nifti(tmp_path / "images/x.nii", random_image(shape, dtype))
    write_nifti(tmp_path / "labels/x.nii", two_classes(shape))
    data = LoadScand(["image", "label"])(load_cases(tmp_path)[0].to_dict())
    generate = GenerateNoised("image", small_umed(len(shape)), PercentileWindow(), BUDGET, window_voxels=voxels)
    done, image, outside = generate(data)["image"].numpy(), data["image"].numpy(), data["label"].numpy() == 0
    width = np.subtract(*np.percentile(image.astype(np.float64), [99.5, 0.5]))
    change = np.abs(done.astype(np.float64) - image) / width
    assert 0.1 * BUDGET.epsilon < change.max() <= BUDGET.epsilon * (1 + 1e-3)
    assert (change[~outside] > 0).mean() > 0.5 and not change[outside].any()
    assert np.array_equal(generate(data)["image"].numpy(), done)
    if dtype == "int16":
        assert np.array_equal(done, np.rint(done))


@pytest.mark.parametrize("kind", ["numpy", "torch", "meta"])
def test_type_and_dtype_are_kept(kind: str) -> None:
    image = random_image((1, 20, 18), "float32")
    image = {"numpy": lambda x: x, "torch": torch.as_tensor, "meta": lambda x: torch.as_tensor(x)}[kind](image)
    done = GenerateNoise(small_umed(2), PercentileWindow(), BUDGET)(image, two_classes((20, 18))[None])
    assert type(done) is type(image) and done.dtype == image.dtype and not np.array_equal(done, image)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float64"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_other_types_keep_to_the_budget_too(dtype: str, kind: Callable[[NDArray], Any]) -> None:
    image = np.arange(256.0).reshape(1, 16, 16).astype(dtype)  # uint8 has no room above and below
    budget, perturber = Budget(7.3 / 255), RandomNoise(7.3 / 255, Everywhere(), distribution="uniform")
    done = np.asarray(GenerateNoise(perturber, PercentileWindow(0, 100), budget)(kind(image)))
    assert done.dtype == image.dtype
    assert 6 < np.abs(done.astype(np.float64) - image).max() <= 7.3


def test_voxels_without_noise_stay_as_they_are() -> None:
    image = random_image((1, 20, 18), "float64") / 3  # more digits than float32 has
    done = GenerateNoise(small_umed(2), PercentileWindow(), BUDGET)(image, two_classes((20, 18))[None])
    assert np.array_equal(done[0, two_classes((20, 18)) == 0], image[0, two_classes((20, 18)) == 0])


def test_after_the_loader_of_monai(dataset: Path) -> None:
    generate = GenerateNoised("image", small_umed(), PercentileWindow(), BUDGET)
    item = load_cases(dataset)[0].to_dict()
    done = Compose([LoadImaged(["image", "label"], ensure_channel_first=True), generate])(item)["image"]
    clean = LoadScan()(item["image"])
    assert done.shape == clean.shape and 0 < (done - clean).abs().max() <= BUDGET.epsilon * (clean.max() - clean.min())


def test_channels_have_windows_of_their_own() -> None:
    image = random_image((2, 20, 18), "float32")
    image[1] = 100 * image[1]
    done = GenerateNoise(small_umed(2, in_channels=2), PercentileWindow(), BUDGET)(image, two_classes((20, 18))[None])
    change = np.abs(done - image).reshape(2, -1).max(1) / np.ptp(image.reshape(2, -1), axis=1)
    assert (change > 0.1 * BUDGET.epsilon).all() and (change <= BUDGET.epsilon).all()


def test_errors(dataset: Path, tmp_path: Path) -> None:
    item = load_cases(dataset)[0].to_dict()
    data, perturber = LoadScand(["image", "label"])(item), small_umed()
    with pytest.raises(LabelError, match="images/a: the method needs a label"):
        GenerateNoised("image", perturber, PercentileWindow(), BUDGET, label_key=None)(data)
    with pytest.raises(BudgetError, match="images/a: .*less than one storage step"):
        GenerateNoised("image", perturber, PercentileWindow(), Budget(1e-6))(data)
    with pytest.raises(NoiseMismatchError, match="was applied before the noise"):
        GenerateNoised("image", perturber, PercentileWindow(), BUDGET)(Flipd("image", 0)(data))
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        GenerateNoised("image", tmp_path / "gone.safetensors", PercentileWindow(), BUDGET)
    missing = GenerateNoised("image", perturber, PercentileWindow(), BUDGET, allow_missing_keys=True)
    assert missing({"x": 1}) == {"x": 1}
