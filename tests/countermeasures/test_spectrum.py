# SPDX-License-Identifier: Apache-2.0
"""What repeats is taken out of the spectrum; sharpening is drawn anew in training and fixed at test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose
from scipy import fft

from monai_unlearnable.countermeasures import (
    ClipSpectrum,
    Countermeasure,
    Material,
    Prepared,
    RandSharpenLowPass,
    RandSharpenLowPassd,
    SharpenLowPass,
    for_test,
    prepare,
)
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from tests.countermeasures.images import unit_image

SHAPES = {2: (48, 40), 3: (30, 36, 28)}


def scan(dims: int, seed: int = 0) -> np.ndarray:
    """An image whose spectrum falls, as that of a scan, with a little noise; (1, spatial...) in [0.2, 0.8]."""
    rng, shape = np.random.default_rng(seed), SHAPES[dims]
    grid = np.meshgrid(*[np.arange(extent) / extent for extent in shape], indexing="ij")
    values = fft.idctn(
        rng.standard_normal(shape) / (0.03 + np.sqrt(sum(axis**2 for axis in grid))) ** dims, norm="ortho"
    )
    return (0.2 + 0.6 * (values - values.min()) / np.ptp(values))[None].astype(np.float32)


def region(dims: int) -> np.ndarray:
    inside = np.zeros((1, *SHAPES[dims]), np.float32)
    inside[(0, *(slice(extent // 4, 3 * extent // 4) for extent in SHAPES[dims]))] = 1
    return inside


def carriers(dims: int) -> dict[str, np.ndarray]:
    """Rows of period 2, a checkerboard, and a lattice of period 4 (+ - - + along each axis), in a region."""
    places = np.indices(SHAPES[dims])
    patterns = {
        "rows": 1 - 2 * (places[0] % 2),
        "checkerboard": 1 - 2 * (places.sum(0) % 2),
        "lattice": np.array([1, -1, -1, 1])[places % 4].prod(0),
    }
    return {name: pattern[None] * region(dims) for name, pattern in patterns.items()}


@pytest.mark.parametrize("dims", [2, 3])
def test_clipping_removes_carriers_and_keeps_the_scan(dims: int) -> None:
    clip, clean = ClipSpectrum(factor=2.0), scan(dims)
    assert np.abs(clip(clean) - clean).mean() < 0.1 * clean.std()
    for name, pattern in carriers(dims).items():
        noise = 14 / 255 * pattern
        left = ((clip(clean + noise) - clip(clean)) * pattern).sum() / (noise * pattern).sum()
        assert left < 0.3, name
        weaker = ClipSpectrum(factor=8.0)
        assert left < ((weaker(clean + noise) - weaker(clean)) * pattern).sum() / (noise * pattern).sum(), name


@pytest.mark.parametrize("dims", [2, 3])
def test_by_default_half_of_the_fine_detail_goes_and_carriers_with_it(dims: int) -> None:
    """A carrier keeps a twentieth; a smooth image loses half of its coefficients there, and little of its intensity."""
    clip, clean = ClipSpectrum(), scan(dims)
    for name, pattern in carriers(dims).items():
        noise = 14 / 255 * pattern
        left = ((clip(clean + noise) - clip(clean)) * pattern).sum() / (noise * pattern).sum()
        assert abs(left) < 0.1, name
    before, after = (fft.dctn(image[0], norm="ortho") for image in (clean, clip(clean)))
    axes = np.meshgrid(*[np.arange(extent) / (2 * extent) for extent in before.shape], indexing="ij")
    beyond = np.sqrt(sum(axis**2 for axis in axes)) > 0.2
    assert 0.4 < (np.abs(after[beyond]) < 1e-4).mean() < 0.6
    assert np.allclose(after[~beyond], before[~beyond], atol=1e-3)
    assert 0 < np.abs(clip(clean) - clean).mean() < 0.15 * clean.std()


def test_low_frequencies_and_what_lies_below_the_level_stay() -> None:
    clean = scan(2)
    assert np.array_equal(ClipSpectrum(inner=2)(clean), clean)
    assert np.allclose(ClipSpectrum(factor=1e6)(clean), clean, atol=1e-6)
    spectrum, clipped = (fft.dctn(image[0], norm="ortho") for image in (clean, ClipSpectrum(factor=3, left=1)(clean)))
    distance = np.hypot(*np.meshgrid(np.arange(48) / 96, np.arange(40) / 80, indexing="ij"))
    changed = np.abs(clipped - spectrum) > 1e-4
    assert changed.any() and not changed[distance <= 0.2].any()
    assert (np.abs(clipped[changed]) > 1e-4).all() and (np.sign(clipped) == np.sign(spectrum))[changed].all()


def test_the_sharpening_by_hand() -> None:
    image = unit_image((1, 9, 8))
    padded = np.pad(image[0], 1, mode="reflect")
    neighbors = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    by_hand = (3 * image[0] - 0.5 * neighbors).clip(0, 1)
    assert np.allclose(SharpenLowPass(center=3, kept=1)(image)[0], by_hand, atol=1e-5)
    low = fft.dctn(SharpenLowPass(center=1, kept=0.5)(scan(2))[0], norm="ortho")
    assert np.abs(low[24:]).max() < 1e-4 and np.abs(low[:, 20:]).max() < 1e-4 and np.abs(low[:24, :20]).max() > 1


def test_random_kernels_scatter_around_the_fixed_one() -> None:
    image, change = scan(3), RandSharpenLowPass(center=2, std=0.02, kept=0.6)
    change.set_random_state(0)
    drawn = [change(image) for _ in range(40)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.abs(np.mean(drawn, 0) - SharpenLowPass(2, 0.6)(image)).mean() < np.std(drawn, 0).mean() / 2
    exact = RandSharpenLowPass(center=2, std=0, kept=0.6)
    assert np.allclose(exact(image), SharpenLowPass(2, 0.6)(image), atol=1e-5)


def test_kernels_are_drawn_anew_in_training_and_repeat_with_the_seed() -> None:
    case = {"image": torch.as_tensor(scan(2))}

    def drawn(seed: int) -> list[torch.Tensor]:
        pipeline = Compose([RandSharpenLowPassd("image")])
        data = CacheDataset([case], pipeline, progress=False)
        pipeline.set_random_state(seed)
        return [data[0]["image"] for _ in range(3)]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])


def test_test_images_and_learners_see_a_fixed_version() -> None:
    case: dict[str, Any] = {"image": torch.as_tensor(scan(2)), "case_id": "a"}
    seen = []

    class Watch(Countermeasure):
        def prepare(self, material: Material) -> Prepared:
            seen.extend(material.load(case)["image"] for _ in range(2))
            return Prepared(material.cases)

    step = RandSharpenLowPassd("image", center=2.5, kept=0.4)
    prepared = prepare([step, Watch()], Material([case], dict))
    (fixed,) = for_test(prepared.steps)
    expected = SharpenLowPass(2.5, 0.4)(case["image"])
    assert prepared.steps == (step,)
    assert all(torch.equal(image, expected) for image in (*seen, fixed(case)["image"]))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["sharpen_lowpass", "kspace_clip"])
def test_catalog(name: str, dims: int) -> None:
    steps = Catalog.load("countermeasures").build(name, dims=dims, size=[16] * dims)
    image = torch.as_tensor(scan(dims))
    for step in (*steps, *for_test(steps)):
        done = step({"image": image})["image"]
        assert done.shape == image.shape and not torch.equal(done, image) and done.min() >= 0 and done.max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ClipSpectrum(factor=-1), "factor must be at least 0"),
        (lambda: ClipSpectrum(factor=1, left=2), "left is 2"),
        (lambda: SharpenLowPass(center=0.5), "center must be at least 1"),
        (lambda: RandSharpenLowPassd("image", kept=0), "kept is 0"),
        (lambda: RandSharpenLowPass(std=-1), "std must be at least 0"),
    ],
)
def test_wrong_strengths(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()
