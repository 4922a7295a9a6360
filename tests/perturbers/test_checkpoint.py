# SPDX-License-Identifier: Apache-2.0
"""Perturbers in files, and on images of any size."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.intensity import FixedWindow
from monai_unlearnable.masks import ContourBand, Everywhere, Roi, TextureMap
from monai_unlearnable.perturbers import (
    AutoregressiveNoise,
    GradientNoise,
    InputSettings,
    LinearSurrogate,
    Perturber,
    RandomNoise,
    UMed,
    load_input_settings,
    load_perturber,
    round_to_quantization,
    save_perturber,
)
from monai_unlearnable.perturbers.inference import generate_noise, generate_noises
from monai_unlearnable.utils.descriptions import describe
from tests.helpers import BUDGET, small_shared, small_surrogate, small_umed, two_classes


class Coordinates(Perturber):
    """Noise that only depends on the phase of a voxel: windows that disagree in phase are seen."""

    divisor = 4

    def __init__(self, support=None) -> None:
        super().__init__()
        self.allowed = support or Everywhere()
        self.seen: list[tuple[int, ...]] = []

    def support(self, image: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return self.allowed(image, label)

    def delta(self, image, case_ids, label=None, support=None):
        self.seen.append(tuple(image.shape[2:]))
        axes = [torch.arange(extent) % 4 for extent in image.shape[2:]]
        phase = sum(axis.reshape(-1, *[1] * i) for i, axis in enumerate(reversed(axes)))
        return (0.01 * (1 + phase)).expand(image.shape) * (self.support(image, label) if support is None else support)


@pytest.mark.parametrize("dims", [2, 3])
def test_checkpoint_round_trip(tmp_path: Path, dims: int) -> None:
    perturber = small_umed(dims, 3, in_channels=2, support=Roi(2) & ~ContourBand(0, 1))
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert isinstance(loaded, UMed) and describe(loaded) == describe(perturber) and not loaded.training
    image, label = torch.rand(1, 2, *[16] * dims), torch.ones(1, 1, *[16] * dims, dtype=torch.long)
    assert torch.equal(loaded.delta(image, ["a"], label), perturber.eval().delta(image, ["a"], label))
    save_perturber(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()


@pytest.mark.parametrize("factor", [0.5, 3])
@pytest.mark.parametrize("make", [small_umed, lambda: small_shared((2, 2, 2))])
def test_another_epsilon_scales_the_noise_of_a_checkpoint(
    tmp_path: Path, make: Callable[[], Perturber], factor: float
) -> None:
    save_perturber(make(), tmp_path / "p.safetensors")
    known = load_perturber(tmp_path / "p.safetensors")
    scaled = load_perturber(tmp_path / "p.safetensors", epsilon=factor * known.epsilon)
    image, label = torch.rand(1, 1, 16, 16, 16), torch.ones(1, 1, 16, 16, 16, dtype=torch.long)
    noise = known.delta(image, ["a"], label)
    assert noise.abs().max() > 0 and torch.allclose(scaled.delta(image, ["a"], label), factor * noise, rtol=1e-5)
    assert describe(scaled)["epsilon"] == pytest.approx(factor * known.epsilon)


def test_a_epsilon_that_is_no_number_is_not_blamed_on_the_checkpoint(tmp_path: Path) -> None:
    save_perturber(small_umed(), tmp_path / "p.safetensors")
    with pytest.raises(InputError, match=r"^epsilon is 'abc', which is not a number"):
        load_perturber(tmp_path / "p.safetensors", epsilon="abc")  # type: ignore[arg-type]


@pytest.mark.parametrize("label_values", [None, [0, 7, 255]])
def test_checkpoint_tells_how_cases_are_read(tmp_path: Path, label_values: list[int] | None) -> None:
    settings = InputSettings(FixedWindow(-160.5, 240), label_values)
    for name in "ab":
        save_perturber(small_umed(), tmp_path / name, settings)
    assert load_input_settings(tmp_path / "a") == settings
    assert describe(load_perturber(tmp_path / "a")) == describe(small_umed())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_checkpoint_tells_the_names_of_classes_only_where_there_are_some(tmp_path: Path) -> None:
    settings = InputSettings(FixedWindow(0, 1), class_names=(("ill", "well"), ()))
    save_perturber(small_umed(), tmp_path / "named", settings)
    assert load_input_settings(tmp_path / "named") == settings
    assert "class_names" not in describe(InputSettings(FixedWindow(0, 1))), "as in earlier releases"


def test_checkpoint_that_does_not_tell_how_cases_are_read(tmp_path: Path) -> None:
    save_perturber(small_umed(), tmp_path / "p.safetensors")
    with pytest.raises(InputError, match=r"p\.safetensors: holds no window and label values; give both"):
        load_input_settings(tmp_path / "p.safetensors")


def checkpoint(perturber: object) -> bytes:
    return described({"perturber": perturber})


def described(description: object) -> bytes:
    return safetensors.torch.save({"x": torch.zeros(1)}, {"description": json.dumps(description)})


GARBAGE = {
    "empty": b"",
    "text": b"no checkpoint at all",
    "pickle": pickle.dumps({"a": 1}),
    "no metadata": safetensors.torch.save({"x": torch.zeros(1)}),
    "no json": safetensors.torch.save({"x": torch.zeros(1)}, {"description": "{"}),
    "no object": described(3),
    "nothing": described({}),
    "a number": checkpoint(3),
    "a mask": checkpoint(describe(Roi())),
    "foreign": checkpoint({"_target_": "os.system", "command": "true"}),
    "no channels": checkpoint({"_target_": "monai_unlearnable.perturbers.UMed", "spatial_dims": 2, "channels": []}),
    "bad dimensions": checkpoint({"_target_": "monai_unlearnable.perturbers.UMed", "spatial_dims": 9}),
    "other weights": checkpoint(describe(UMed(2, channels=(4, 8)))),
    "truncated": checkpoint(describe(UMed(2, channels=(4, 8))))[:-2],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_no_checkpoint(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p.safetensors").write_bytes(GARBAGE[kind])
    for load in (load_perturber, load_input_settings):
        with pytest.raises(InputError, match=r"p\.safetensors: is not a perturber checkpoint"):
            load(tmp_path / "p.safetensors")


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        load_perturber(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("shape", [(21, 18), (11, 14, 9), (16, 16), (5, 3, 2)])
def test_noise_of_any_size(shape: tuple[int, ...]) -> None:
    perturber, label = small_umed(len(shape)).eval(), two_classes(shape)[None]
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    noise = generate_noise(perturber, image, "a", label)
    assert noise.shape == image.shape and noise.dtype == np.float32
    assert np.abs(noise).max() <= BUDGET.epsilon + 1e-7
    assert noise.any() and not noise[label == 0].any()
    assert np.array_equal(generate_noise(perturber, image, "a", label), noise)


@pytest.mark.parametrize(("shape", "voxels"), [((40, 23), 64), ((17, 20, 13), 512), ((17, 20, 13), 1), ((9, 40), 100)])
def test_windows_agree_with_one_pass(shape: tuple[int, ...], voxels: int) -> None:
    perturber, image = Coordinates(), np.zeros((2, *shape), np.float32)
    whole = generate_noise(perturber, image, "a")
    perturber.seen.clear()
    assert np.allclose(generate_noise(perturber, image, "a", window_voxels=voxels), whole, atol=1e-6)
    assert len(perturber.seen) > 1 and all(extent % 4 == 0 for window in perturber.seen for extent in window)
    assert max(np.prod(window) for window in perturber.seen) <= max(voxels, 8 ** len(shape))


def test_large_images_are_worked_on_near_the_support_only() -> None:
    label = np.zeros((1, 64, 64), np.uint8)
    label[0, 30:34, 40:44] = 1
    perturber = Coordinates(Roi())
    noise = generate_noise(perturber, np.zeros((1, 64, 64), np.float32), "a", label, window_voxels=1024)
    assert sum(np.prod(window) for window in perturber.seen) <= 400
    assert np.array_equal(noise != 0, label != 0)


@pytest.mark.parametrize("support", [Roi(2), ~Roi(3), ContourBand(2, 2), ~ContourBand()], ids=repr)
def test_windows_respect_the_support_of_the_whole_image(support) -> None:
    label = np.zeros((1, 40, 40), np.uint8)
    label[0, 14:27, 11:30] = 1
    noise = generate_noise(Coordinates(support), np.zeros((1, 40, 40), np.float32), "a", label, window_voxels=64)
    allowed = support(torch.zeros(1, 1, 40, 40), torch.as_tensor(label)[None].long())[0].numpy() > 0
    assert noise.any() and not noise[~allowed].any()


BATCHED = {
    "umed": lambda: small_umed(2),
    "random": lambda: RandomNoise(BUDGET.epsilon, Everywhere()),
    "autoregressive": lambda: AutoregressiveNoise(BUDGET.epsilon),
    "gradient": lambda: GradientNoise([small_surrogate("UNet")], BUDGET.epsilon, steps=2, divisor=8),
    "gradient-classes": lambda: GradientNoise([small_surrogate()], BUDGET.epsilon, steps=2),
    "shared": lambda: small_shared((8, 8)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_equals_its_images_one_at_a_time(name: str) -> None:
    perturber, cases = BATCHED[name]().eval(), ["a", "b", "c"]
    images = list(np.random.default_rng(0).random((3, 1, 21, 18), np.float32))
    labels = [np.roll(two_classes((21, 18))[None], shift, 1) for shift in range(3)]
    labels = [2, 0, 1] if name == "gradient-classes" else labels
    together = generate_noises(perturber, images, cases, labels)
    for noise, *one in zip(together, images, cases, labels, strict=True):
        alone = generate_noise(perturber, *one)
        assert noise.shape == (1, 21, 18) and noise.dtype == np.float32 and noise.any()
        # Signs of gradients that are nearly zero may differ by rounding.
        assert (np.abs(noise - alone) > 1e-6).mean() < 0.01


@pytest.mark.parametrize("label", [two_classes((40, 36))[None], 1], ids=["map", "class"])
def test_large_images_go_whole_where_windows_would_not_do(label) -> None:
    image = np.random.default_rng(0).random((2, 40, 36), np.float32)
    for perturber in (RandomNoise(BUDGET.epsilon, Everywhere()), AutoregressiveNoise(BUDGET.epsilon)):
        batch = torch.as_tensor(np.asarray(label, np.int64))[None]
        whole = perturber.delta(torch.as_tensor(image)[None], ["a"], batch)[0].numpy()
        assert np.array_equal(generate_noise(perturber, image, "a", label, window_voxels=64), whole)


def test_large_images_of_one_class_go_whole() -> None:
    perturber, images = Coordinates(), np.zeros((2, 1, 40, 24), np.float32)
    generate_noises(perturber, images, ["a", "b"], [0, 1], window_voxels=64)
    assert perturber.seen == [(40, 24)], "a window is no image of the class"
    perturber.seen.clear()
    maps = [two_classes((40, 24))[None]] * 2
    generate_noises(perturber, images, ["a", "b"], maps, window_voxels=64)
    assert max(np.prod(window) for window in perturber.seen) <= 64


@pytest.mark.parametrize(
    ("perturber", "label", "reason"),
    [
        (small_umed(2), 1, "Roi needs a class for each voxel, and these cases have one for each image"),
        (RandomNoise(0.1, Roi()), 1, "Roi needs a class for each voxel"),
        (GradientNoise([small_surrogate()], support=Roi()), 1, "Roi needs a class for each voxel"),
        (LinearSurrogate(3, (4, 4)), two_classes((9, 9))[None], "the method needs one class for each whole image"),
        (LinearSurrogate(3, (4, 4)), 3, "the class is not known to the method"),
    ],
    ids=["umed", "random", "gradient", "linear", "linear-unknown"],
)
def test_labels_of_the_wrong_kind(perturber: Perturber, label: object, reason: str) -> None:
    image = np.random.default_rng(0).random((1, 9, 9), np.float32)
    with pytest.raises(LabelError, match=f"case7: {reason}") as caught:
        generate_noise(perturber, image, "case7", label)
    assert caught.value.case == "case7"
    with pytest.raises(LabelError, match="case8: the method needs a label"):
        generate_noises(small_umed(2), [image, image], ["case7", "case8"], [two_classes((9, 9))[None], None])


def test_the_case_of_a_batch_that_is_wrong_is_named() -> None:
    images, cases = list(np.random.default_rng(0).random((3, 1, 16, 16), np.float32)), ["case7", "case8", "case9"]
    with pytest.raises(LabelError, match="case8: the class is not known") as caught:
        generate_noises(GradientNoise([small_surrogate()]), images, cases, [0, 3, 1])
    assert (caught.value.value, caught.value.limit) == (3, 2)


def test_missing_and_empty_labels() -> None:
    image = np.random.default_rng(0).random((1, 9, 9), np.float32)
    with pytest.raises(LabelError, match="case7: the method needs a label"):
        generate_noise(small_umed(2), image, "case7")
    assert not generate_noise(small_umed(2), image, "case7", np.zeros((1, 9, 9))).any()
    free = small_umed(2, support=Everywhere(), contour=~Everywhere(), texture=TextureMap())
    assert not free.needs_label and generate_noise(free, image, "case7").any()


def test_delta_is_within_epsilon_and_differentiable() -> None:
    perturber = small_umed(2)
    label = torch.as_tensor(two_classes((16, 16)))[None, None].long()
    delta = perturber.delta(torch.rand(2, 1, 16, 16), ["a", "b"], label.expand(2, -1, -1, -1))
    assert delta.abs().max() <= BUDGET.epsilon
    delta.square().sum().backward()
    assert all(parameter.grad is not None for parameter in perturber.parameters())


def test_round_to_quantization_truncates_and_passes_gradients() -> None:
    noise = torch.tensor([[[0.019, -0.019, 0.031, 0.0]], [[0.019, -0.019, 0.031, 0.0]]], requires_grad=True)
    rounded = round_to_quantization(noise, torch.tensor([[0.01], [0.0]]))
    assert torch.allclose(rounded[0], torch.tensor([[0.01, -0.01, 0.03, 0.0]])) and torch.equal(rounded[1], noise[1])
    (3 * rounded).sum().backward()
    assert torch.equal(noise.grad, torch.full_like(noise, 3))
