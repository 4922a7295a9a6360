# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out while noise is made: smaller windows, a warning, or one error that names the case."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_unlearnable.errors import OutOfMemoryError
from monai_unlearnable.masks import Everywhere, Roi
from monai_unlearnable.perturbers import RandomNoise, UMed
from monai_unlearnable.perturbers.inference import generate_noise, generate_noises
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import two_classes

ERRORS = [
    MemoryError("Unable to allocate 9 GiB"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
SHAPE = (80, 72, 64)


class Pointwise(UMed):
    """Noise of each voxel alone, which windows of any size agree on."""

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        return self.epsilon * image * support


class Limited:
    """A perturber's ``delta`` that fails on more voxels than a limit, and counts what it was given."""

    def __init__(self, perturber: UMed | RandomNoise, limit: int, error: Exception) -> None:
        self.made, self.limit, self.error, self.seen = perturber.delta, limit, error, list[int]()
        perturber.delta = self  # type: ignore[method-assign, assignment]

    def __call__(self, image: Tensor, *arguments: object) -> Tensor:
        self.seen.append(image.numel())
        if image.numel() > self.limit:
            raise self.error
        return self.made(image, *arguments)  # type: ignore[arg-type]


def case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(seed).random((1, *SHAPE), dtype=np.float32)
    return image, two_classes(SHAPE)[None]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_smaller_windows_until_they_fit(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    image, label = case()
    perturber = Pointwise(3, support=Roi()).eval()
    whole = generate_noise(perturber, image, "a", label)
    limited = Limited(perturber, 2**13, error)
    with caplog.at_level(logging.WARNING):
        noise = generate_noise(perturber, image, "a", label)
    assert np.allclose(noise, whole, atol=1e-7) and whole.any()
    assert not noise[:, label[0] == 0].any(), "nothing outside of the support"
    assert limited.seen[0] > limited.seen[1] > limited.limit >= max(limited.seen[2:])
    sizes = [int(record.args[1]) for record in caplog.records]  # type: ignore[index, arg-type]
    assert "a: out of memory" in caplog.text and sizes == sorted(sizes, reverse=True)


def test_noise_of_smaller_windows_is_what_these_windows_give_when_asked_for() -> None:
    image, label = case()
    perturber = reset_parameters(UMed(3), 0).eval()
    voxels = image.size // 8
    asked = generate_noise(perturber, image, "a", label, voxels)
    Limited(perturber, 2**16, ERRORS[0])
    assert np.array_equal(generate_noise(perturber, image, "a", label), asked)


def test_cases_together_go_one_at_a_time_first() -> None:
    perturber = RandomNoise(0.1, Everywhere())
    images = [case(seed)[0] for seed in (0, 1)]
    expected = [generate_noise(perturber, image, name) for image, name in zip(images, "ab", strict=True)]
    Limited(perturber, images[0].size, ERRORS[0])
    noises = generate_noises(perturber, images, ["a", "b"], [None, None])
    assert all(np.array_equal(*pair) for pair in zip(noises, expected, strict=True))


@pytest.mark.parametrize("windowed", [True, False])
def test_one_error_names_the_case_when_nothing_fits(windowed: bool) -> None:
    image, label = case()
    perturber = UMed(3).eval() if windowed else RandomNoise(0.1)
    limited = Limited(perturber, 0, ERRORS[1])
    with pytest.raises(OutOfMemoryError, match=r"^images/a: its noise takes more memory than there is: CUDA out of"):
        generate_noise(perturber, image, "images/a", label)
    assert (len(limited.seen) > 1) == windowed, "what cannot be divided is not tried again"


def test_other_errors_are_not_taken_for_it() -> None:
    perturber = UMed(3).eval()
    Limited(perturber, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        generate_noise(perturber, *case()[:1], "a", case()[1])
