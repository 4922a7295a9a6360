# SPDX-License-Identifier: Apache-2.0
"""Adversarial batches raise the loss, stay near the image, and leave the network alone."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import reset_parameters
from monai_unlearnable.victims import AdversarialBatch
from monai_unlearnable.victims.networks import DeepSupervision

SIZES = {2: (16, 24), 3: (16, 16, 8)}
SEGMENTATION = DeepSupervision(DiceCELoss(softmax=True, to_onehot_y=True))


def setting(name: str, dims: int) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {"dims": dims, "channels": 1, "classes": 3, "size": list(SIZES[dims]), "width": 4}
    network = reset_parameters(Catalog.load("networks").build(name, **values), 0)
    image = torch.randn(3, 1, *SIZES[dims], generator=generator)
    if name == "ResNet18":
        return network, nn.CrossEntropyLoss(), image, torch.tensor([0, 1, 2])
    return network, SEGMENTATION, image, torch.randint(3, image.shape, generator=generator)


@pytest.mark.parametrize(("name", "dims"), [("UNet", 2), ("DynUNet", 3), ("ResNet18", 2)])
def test_loss_rises_within_the_epsilon(name: str, dims: int) -> None:
    network, loss, image, label = setting(name, dims)
    adversary = AdversarialBatch(epsilon=8 / 255, steps=3)
    result = adversary.perturb(network, loss, image, label, torch.Generator().manual_seed(0))
    unit = image.flatten(1).amax(1) - image.flatten(1).amin(1)
    change = (result - image).flatten(1).abs().amax(1) / unit
    assert (change <= 8 / 255 + 1e-6).all() and (change > 7 / 255).all()
    for one, other in zip(image, result, strict=True):
        assert one.min() <= other.min() and other.max() <= one.max()
    with torch.no_grad():
        network.eval()
        assert loss(network(result), label) > loss(network(image), label) + 1e-3
    assert not result.requires_grad


def test_more_steps_and_larger_epsilon_are_worse() -> None:
    network, loss, image, label = setting("UNet", 2)

    def after(**arguments: float) -> float:
        result = AdversarialBatch(**arguments).perturb(network, loss, image, label)
        with torch.no_grad():
            return loss(network.eval()(result), label).item()

    assert after(epsilon=0.01, steps=1) < after(epsilon=0.05, steps=1) <= after(epsilon=0.05, steps=5) + 1e-4


def test_network_is_left_as_it_was() -> None:
    network, loss, image, label = setting("ResNet18", 2)
    network.train()
    network.bn1.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    AdversarialBatch(steps=2).perturb(network, loss, image, label)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training and network.layer1.training and not network.bn1.training


def test_constant_images_stay() -> None:
    network, loss, image, label = setting("UNet", 2)
    flat = torch.full_like(image, 0.5)
    assert torch.equal(AdversarialBatch().perturb(network, loss, flat, label), flat)


def test_hook_of_the_trainer_repeats_with_the_seed() -> None:
    def train(seed: int) -> list[torch.Tensor]:
        network, loss, image, label = setting("UNet", 2)
        adversary = AdversarialBatch(steps=2)
        seen = []
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=[{"image": image, "label": label}] * 2,
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), 0.1),
            loss_function=loss,
            prepare_batch=adversary.bind(network, loss, seed),
            train_handlers=None,
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(trainer.state.output[0]["image"]))
        trainer.run()
        assert network.training
        return seen

    first, second, other = train(0), train(0), train(1)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize("arguments", [{"epsilon": 0}, {"steps": 0}, {"step_size": -1.0}])
def test_useless_settings_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be positive"):
        AdversarialBatch(**arguments)
