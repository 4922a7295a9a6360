# SPDX-License-Identifier: Apache-2.0
"""Noise for several labels tells the class of each, and of the unperturbed ones nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, OfClasses
from monai_unlearnable.perturbers import (
    LinearPatterns,
    MultiTaskNoise,
    RandomNoise,
    TaskPatterns,
    load_perturber,
    save_perturber,
)
from monai_unlearnable.training import EmbeddingContrast
from monai_unlearnable.utils.seeding import reset_parameters

EPSILON, TASKS = 0.1, ("finding", "view")
LABELS = torch.tensor([[0, 0], [1, 0], [0, 2], [1, 2]])


def images(count: int = 4, dims: int = 2) -> Tensor:
    return torch.rand(1, 1, *[20] * dims, generator=torch.Generator().manual_seed(0)).expand(count, *[-1] * (dims + 1))


def generator(dims: int = 2, **arguments: object) -> MultiTaskNoise:
    perturber = MultiTaskNoise(dims, 1, (2, 3), TASKS, EPSILON, channels=(4, 8), **arguments)  # type: ignore[arg-type]
    reset_parameters(perturber, 0)
    return perturber.eval()


def patterns() -> TaskPatterns:
    kept = [Everywhere() & ~OfClasses([0]) for _ in TASKS]
    parts = [LinearPatterns(EPSILON, support, cells=4, seed=seed) for seed, support in enumerate(kept)]
    return TaskPatterns(parts, TASKS, EPSILON)


@pytest.mark.parametrize("make", [patterns, lambda: generator(unperturbed=(0, 0))])
def test_each_class_tells_and_unperturbed_ones_say_nothing(make: object) -> None:
    perturber = make()  # type: ignore[operator]
    with torch.no_grad():
        none, finding, view, both = perturber.delta(images(), list("abcd"), LABELS)
    assert not none.any(), "both classes are unperturbed"
    pairs = [(finding, view), (finding, both), (view, both)]
    assert all(part.any() for part in (finding, view, both)) and not any(torch.equal(*pair) for pair in pairs)
    assert both.abs().max() <= EPSILON + 1e-7


def test_patterns_are_summed_and_clipped() -> None:
    _, finding, view, both = patterns().delta(images(), list("abcd"), LABELS)
    assert torch.allclose(both, (finding + view).clamp(-EPSILON, EPSILON))
    assert finding.abs().max() == pytest.approx(EPSILON), "a single one keeps its strength"


@pytest.mark.parametrize("dims", [2, 3])
def test_one_label_an_image_will_do(dims: int) -> None:
    perturber = MultiTaskNoise(dims, 1, (3,), epsilon=EPSILON, channels=(4, 8)).eval()
    with torch.no_grad():
        noise = perturber.delta(images(3, dims), list("abc"), torch.arange(3))
    assert noise.shape == (3, 1, *[20] * dims) and not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("make", [patterns, generator])
def test_a_checkpoint_gives_the_same_noise_and_takes_another_epsilon(tmp_path: Path, make: object) -> None:
    perturber = make()  # type: ignore[operator]
    save_perturber(perturber, tmp_path / "x.safetensors")
    with torch.no_grad():
        noise, again, half = (
            one.delta(images(), list("abcd"), LABELS)
            for one in (
                perturber,
                *(load_perturber(tmp_path / "x.safetensors", epsilon=e) for e in (None, EPSILON / 2)),
            )
        )
    assert torch.equal(noise, again) and torch.allclose(noise / 2, half)


def test_labels_and_tasks_that_do_not_fit() -> None:
    perturber = generator()
    for label in (None, torch.zeros(1, 1, 20, 20).long()):
        with pytest.raises(LabelError, match="needs a class of the whole image"):
            perturber.support(images(1), label)
    with pytest.raises(LabelError, match="another number of labels"):
        perturber.support(images(1), torch.tensor([1]))
    with pytest.raises(LabelError, match="the class is not known to the method") as caught:
        perturber.support(images(2), torch.tensor([[1, 2], [2, 0]]))
    assert (caught.value.value, caught.value.limit) == (2, 1)
    for other, words in ((("finding", "position"), "the tasks finding, position"), ((), "one label an image")):
        with pytest.raises(InputError, match=f"made for the tasks finding, view, and the dataset has {words}"):
            perturber.check_tasks(other)
    with pytest.raises(InputError, match=r"1 numbers of classes and 1 unperturbed classes for 2 task"):
        MultiTaskNoise(2, 1, (2,), TASKS)
    RandomNoise(EPSILON, Everywhere()).check_tasks(TASKS)
    with pytest.raises(InputError, match=r"protects one label an image, and here are 2 \(finding, view\); methods"):
        LinearPatterns(EPSILON).check_tasks(TASKS)


def test_embeddings_move_apart() -> None:
    perturber = MultiTaskNoise(2, 1, (2, 3), TASKS, channels=(2, 2))
    term, nothing = EmbeddingContrast(perturber, 1.0, 1.0), torch.zeros(())
    optimizer = torch.optim.Adam([perturber.embedding], 0.05)

    def cosines() -> Tensor:
        vectors = torch.nn.functional.normalize(torch.cat(perturber.embeddings()))
        return (vectors @ vectors.T).detach()

    with torch.no_grad():
        perturber.embedding.add_(1)  # all of them alike
    before = cosines()
    for _ in range(100):
        optimizer.zero_grad()
        term(nothing, nothing, lambda: nothing).backward()
        optimizer.step()
    after = cosines()
    assert before.min() > 0.2
    assert after[0, 1] < -0.9 and after[2, 3] < -0.4, "classes of one task are opposed, as far as three can be"
    assert after[:2, 2:].abs().max() < 0.1, "those of different tasks are uncorrelated"
