# SPDX-License-Identifier: Apache-2.0
"""The closed-form noise against a linear model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.perturbers import LinearSurrogate, load_perturber, save_perturber
from monai_unlearnable.utils.descriptions import describe

SHAPE = (24, 16)


def dataset(counts: tuple[int, ...], shape: tuple[int, ...] = SHAPE, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images with a bright stripe that tells their class, and noise."""
    generator = torch.Generator().manual_seed(0)
    label = torch.cat([torch.full((count,), kind) for kind, count in enumerate(counts)])
    image = 0.3 + 0.1 * torch.randn(len(label), channels, *shape, generator=generator)
    width = shape[0] // len(counts)
    for index, kind in enumerate(label.tolist()):
        image[index, :, kind * width : (kind + 1) * width] += 0.3
    return image.clamp(0, 1), label


def fitted(image: Tensor, label: Tensor, batch: int = 7, **arguments: float) -> LinearSurrogate:
    size = [4] * (image.ndim - 2)
    model = LinearSurrogate(int(label.max()) + 1, size, image.shape[1], **arguments)
    return model.fit(zip(image.split(batch), label.split(batch), strict=True))


def cases(label: Tensor) -> list[str]:
    return [str(index) for index in range(len(label))]


def scores(model: LinearSurrogate, image: Tensor) -> Tensor:
    features = F.adaptive_avg_pool2d(image, model.size).flatten(1)
    return features @ model.weight.flatten(1).T


def test_fit_is_ridge_regression() -> None:
    image, label = dataset((20, 20, 20))
    model = fitted(image, label)
    features = F.adaptive_avg_pool2d(image, (4, 4)).flatten(1).double()
    targets = F.one_hot(label).double() - 1 / 3
    penalty = 0.01 * (features.T @ features).diagonal().mean()
    expected = torch.linalg.solve(features.T @ features + penalty * torch.eye(16), features.T @ targets).T
    assert torch.allclose(model.weight.flatten(1).double(), expected, atol=1e-4)
    assert (scores(model, image).argmax(1) == label).all()


def test_fit_knows_neither_batches_nor_order_nor_balance() -> None:
    image, label = dataset((5, 9))
    model = fitted(image, label)
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(1))
    more = torch.cat([torch.arange(len(label)), *[torch.arange(5)] * 6])
    for rows, batch in ((order, 3), (more, 64)):
        assert torch.allclose(fitted(image[rows], label[rows], batch).weight, model.weight, atol=1e-4)


@pytest.mark.parametrize("mix", [0.0, 0.5, 0.9, 1.0])
def test_noise_takes_the_evidence(mix: float) -> None:
    image, label = dataset((20, 20, 20))
    model = fitted(image, label, mix=mix, epsilon=0.1)
    noise = model.delta(image, cases(label), label)
    assert noise.shape == image.shape and noise.abs().max() <= 0.1 + 1e-7 and noise.abs().min() > 0
    rows = torch.arange(len(label))
    assert (scores(model, noise)[rows, label] < 0).all()
    assert (scores(model, image + noise)[rows, label] < scores(model, image)[rows, label]).all()


def test_noise_tells_the_class() -> None:
    image, label = dataset((20, 20, 20))
    noise = fitted(image, label).delta(image, cases(label), label).flatten(1).sign()
    means = torch.stack([noise[label == kind][:10].mean(0) for kind in range(3)])
    assert ((noise @ means.T).argmax(1) == label).all()


def test_noise_is_the_gradient_step_of_the_objective() -> None:
    image, label = dataset((20, 20))
    model = fitted(image, label, mix=0.7)
    delta = torch.zeros_like(image, requires_grad=True)
    agreement = scores(model, delta)[torch.arange(40), label].sum()
    evidence = scores(model, image - delta).square().sum() / 2
    (0.3 * evidence - 0.7 * agreement).backward()
    assert torch.equal(model.delta(image, cases(label), label).sign(), delta.grad.sign())


def test_volumes_channels_and_checkpoints(tmp_path: Path) -> None:
    image, label = dataset((6, 6), (8, 12, 8), 3)
    model = fitted(image, label)
    save_perturber(model, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert isinstance(loaded, LinearSurrogate) and describe(loaded) == describe(model)
    noise = model.delta(image, cases(label), label)
    assert torch.equal(loaded.delta(image, cases(label), label), noise)
    other = F.interpolate(image[:1], (17, 9, 20))
    assert model.delta(other, ["a"], label[:1]).shape == other.shape


def test_what_cannot_be_used() -> None:
    image, label = dataset((4, 4))
    with pytest.raises(InputError, match="has not been fitted"):
        LinearSurrogate(2, [4, 4]).delta(image, cases(label), label)
    model = fitted(image, label)
    with pytest.raises(LabelError, match="these cases have label maps"):
        model.delta(image, cases(label), torch.zeros(8, 1, *SHAPE).long())
    with pytest.raises(LabelError, match="these cases have label maps"):
        model.fit([(image, torch.zeros(8, 1, *SHAPE).long())])
    with pytest.raises(LabelError, match="not known to the method"):
        model.delta(image, cases(label), label + 1)
    with pytest.raises(LabelError, match="needs a label"):
        model.delta(image, cases(label))
    with pytest.raises(InputError, match="class code"):
        LinearSurrogate(2, [4, 4], mix=2)
