# SPDX-License-Identifier: Apache-2.0
"""Exploiters with scans of their own: a denoiser and a remover that have seen nothing of what they change."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_unlearnable.countermeasures import Denoiser, Remover, draw_noise
from monai_unlearnable.countermeasures.own_scans import read_pairs, read_scans, synthetic_scans
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import DatalistError, InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.pipelines import percentile_window
from monai_unlearnable.utils.seeding import isolated_seed
from monai_unlearnable.victims import Classification, Recipe
from tests.countermeasures.planted import SHAPES, box, material, segmentation_cases, smooth_image, stripes
from tests.helpers import write_nifti

QUICK: dict[str, Any] = {"width": 8, "batch_size": 4, "learning_rate": 1e-2}


def change(prepared: Any, image: Tensor) -> Tensor:
    (step,) = prepared.steps
    return step({"image": image})["image"]


def write_others(root: Path, dims: int, count: int = 8) -> tuple[Path, Path]:
    """Another dataset in both versions: larger scans, stored as whole numbers, with stripes in a box."""
    shape = tuple(voxels + 4 for voxels in SHAPES[dims])
    for index in range(count):
        image = smooth_image(shape, 200 + index)
        noisy = image + 0.06 * stripes(shape) * box(shape)
        for folder, values in {"original": image, "protected": noisy}.items():
            stored = (1000 * values[0]).round().numpy().astype(np.int16)
            write_nifti(root / folder / "images" / f"scan{index}.nii.gz", stored)
    return root / "protected", root / "original"


def errors(prepared: Any, dims: int) -> tuple[float, float]:
    """Mean squared error to clean cases that were never seen, before and after."""
    clean, noisy = (segmentation_cases(4, dims, [planted] * 4, start=100) for planted in (False, True))
    pairs = [(case["image"], other["image"]) for case, other in zip(clean, noisy, strict=True)]
    before = sum(float(((x - y) ** 2).mean()) for y, x in pairs)
    return before, sum(float(((change(prepared, x) - y) ** 2).mean()) for y, x in pairs)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_remover_from_pairs_of_other_scans(tmp_path: Path, dims: int) -> None:
    protected, originals = write_others(tmp_path, dims)
    cases = segmentation_cases(3, dims)
    remover = Remover(protected=str(protected), originals=str(originals), iterations=100, **QUICK)
    done = remover.prepare(material(cases))
    before, after = errors(done, dims)
    assert after < 0.7 * before and list(done.cases) == cases


def test_a_denoiser_of_synthetic_scans_removes_what_it_never_saw() -> None:
    denoiser = Denoiser(width=16, iterations=100, batch_size=8, patch_size=16)
    before, after = errors(denoiser.prepare(material(segmentation_cases(2, 2))), 2)
    assert after < 0.6 * before
    volume = segmentation_cases(1, 3)
    done = Denoiser(width=4, iterations=2, patch_size=8).prepare(material(volume))
    assert change(done, volume[0]["image"]).shape == volume[0]["image"].shape


def test_a_denoiser_takes_scans_of_a_folder(tmp_path: Path) -> None:
    _, originals = write_others(tmp_path, 2, count=4)
    quick = {"width": 4, "iterations": 2}
    cases = material(segmentation_cases(2, 2))
    own, drawn = (Denoiser(scans, **quick).prepare(cases) for scans in (str(originals), None))
    image = cases.cases[0]["image"]
    assert change(own, image).shape == image.shape and not torch.equal(change(own, image), change(drawn, image))
    again = Denoiser(str(originals), **quick).prepare(cases)
    assert torch.equal(change(own, image), change(again, image))
    assert torch.equal(change(pickle.loads(pickle.dumps(own)), image), change(own, image))


@pytest.mark.parametrize("window", [(0.5, 99.5), (0, 100), (10, 60)])
def test_scans_are_read_like_those_of_victims(tmp_path: Path, window: tuple[float, float]) -> None:
    protected, originals = write_others(tmp_path, 3, count=5)
    like, intensity = torch.zeros(1, 4, 4, 4), percentile_window(*window)
    scans = read_scans(originals, like, intensity, None, 0)
    cases = [case.to_dict() for case in load_cases(originals, require_labels=False)]
    load = Recipe((8, 8, 8), intensity=intensity).normalized_images(Classification(2))
    assert len(scans) == 5 and all(torch.equal(s, load(case)["image"]) for s, case in zip(scans, cases, strict=True))
    clipped = [float(((scan == 0) | (scan == 1)).float().mean()) for scan in scans]
    expected = (window[0] + 100 - window[1]) / 100
    assert all(0 < part == pytest.approx(expected, abs=0.01) for part in clipped), "clipped to percentiles"
    for noisy, clean in read_pairs(protected, originals, like, intensity, None, 0):
        assert any(torch.equal(clean, scan) for scan in scans) and not torch.equal(clean, noisy)
    few = read_scans(originals, like, intensity, 2, 0)
    assert len(few) == 2 and all(any(torch.equal(scan, other) for other in scans) for scan in few)


def test_noise_is_of_many_kinds_and_never_too_large() -> None:
    with isolated_seed(0):
        noise = draw_noise(torch.Size((200, 2, 16, 12)), 0.1)
    assert noise.shape == (200, 2, 16, 12)
    waves = [sample for sample in noise if torch.equal(sample[0], sample[1])]
    assert 100 < len(waves) < 170 and all(sample.abs().max() <= 0.1 + 1e-6 for sample in waves)
    assert sum(bool((sample == 0).all(0).any()) for sample in noise) > 50  # in a region only
    assert noise.flatten(1).std(1).median() > 0.01


@pytest.mark.parametrize("dims", [2, 3])
def test_synthetic_scans(dims: int) -> None:
    like = torch.zeros(2, *[4] * dims)
    first, again, other = (synthetic_scans(like, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0]) and not torch.equal(*first)
    assert first[0].shape[0] == 2 and first[0].ndim == dims + 1 and first[0].min() == 0 and first[0].max() == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    protected, originals = write_others(tmp_path, 2, count=2)
    flat = material(segmentation_cases(1, 2))
    with pytest.raises(InputError, match="give its folder as 'protected'"):
        Remover()
    with pytest.raises(InputError, match="give its folder as 'originals'"):
        Catalog.load("countermeasures").build(
            "remover", dims=2, size=[8, 8], other_dir=None, other_protected_dir=str(protected)
        )
    with pytest.raises(
        InputError, match=r"1 channel\(s\) in 2D, where those to change have 1 channel\(s\) in 3D"
    ) as caught:
        Denoiser(str(originals)).prepare(material(segmentation_cases(1, 3)))
    assert str(originals) in str(caught.value.file)
    with pytest.raises(DatalistError, match="does not exist"):
        Denoiser(str(tmp_path / "nothing")).prepare(flat)
    (protected / "images" / "scan0.nii.gz").rename(protected / "images" / "other0.nii.gz")
    (protected / "images" / "scan1.nii.gz").rename(protected / "images" / "other1.nii.gz")
    with pytest.raises(DatalistError, match="no case of it is in"):
        Remover(protected=str(protected), originals=str(originals)).prepare(flat)
    write_nifti(protected / "images" / "scan0.nii.gz", np.arange(64, dtype=np.int16).reshape(8, 8))
    with pytest.raises(InputError, match="scan0.*shape"):
        Remover(protected=str(protected), originals=str(originals)).prepare(flat)
    with pytest.raises(InputError, match="amplitude is 0"):
        Denoiser(amplitude=0)
