# SPDX-License-Identifier: Apache-2.0
"""What noise goes down, and how errors are counted."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import Objective
from monai_unlearnable.perturbers.surrogate import error_rate, task_loss
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe

SHAPES = {"classes": (), "maps": (8, 9), "volumes": (8, 6, 5)}
kinds = pytest.mark.parametrize("kind", SHAPES)


def outputs(kind: str, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits of four cases, and labels."""
    generator, shape = torch.Generator().manual_seed(0), SHAPES[kind]
    logits = torch.randn(4, classes, *shape, generator=generator)
    size = (4, 1, *shape) if shape else (4,)
    return logits, torch.randint(0, classes, size, generator=generator)


@kinds
def test_the_loss_is_that_of_the_exploiter(kind: str) -> None:
    logits, label = outputs(kind)
    dice = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    expected = dice(logits, label) if label.ndim > 1 else F.cross_entropy(logits, label)
    assert torch.equal(task_loss(logits, label), expected)


@kinds
def test_goals(kind: str) -> None:
    logits, label = outputs(kind)
    loss = task_loss(logits, label)
    assert torch.equal(Objective()(logits, label), loss)
    assert torch.equal(Objective("minimize")(logits, label), loss)
    assert torch.equal(Objective("maximize")(logits, label), -loss)
    assert torch.equal(Objective("target")(logits, label), task_loss(logits, (label + 1) % 3))
    other = torch.tensor([2, 0, 1])[label]
    assert torch.equal(Objective("target", [2, 0, 1])(logits, label), task_loss(logits, other))


@kinds
def test_two_classes_are_exchanged(kind: str) -> None:
    logits, label = outputs(kind, 2)
    assert torch.equal(Objective("target")(logits, label), task_loss(logits, 1 - label))


@kinds
def test_gradients_flow(kind: str) -> None:
    logits, label = outputs(kind)
    for goal in ("minimize", "maximize", "target"):
        (gradient,) = torch.autograd.grad(Objective(goal)(logits.requires_grad_(), label), logits)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("goal", "targets", "reason"),
    [
        ("least", None, "unknown goal 'least'; known are minimize, maximize, target"),
        ("target", [0, 2, 1], "leave class 0 as it is"),
        ("target", [1, 0, 2], "leave class 2 as it is"),
        ("target", [1, 1, 0], "do not hold each class once"),
        ("target", [1, 2, 3], "do not hold each class once"),
        ("target", [1, -1], "do not hold each class once"),
    ],
)
def test_goals_that_there_are_not(goal: str, targets: list[int] | None, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Objective(goal, targets)


@kinds
def test_wrong_number_of_targets(kind: str) -> None:
    logits, label = outputs(kind)
    with pytest.raises(InputError, match="number of targets") as caught:
        Objective("target", [1, 0])(logits, label)
    assert (caught.value.value, caught.value.limit) == (2, 3)


@pytest.mark.parametrize("objective", [Objective(), Objective("maximize"), Objective("target", [1, 2, 0])], ids=repr)
def test_description_round_trip(objective: Objective) -> None:
    assert build(json.loads(json.dumps(describe(objective)))) == objective


def certain(found: Tensor, classes: int = 3) -> Tensor:
    """Logits whose argmax is ``found`` (B[, spatial...])."""
    return F.one_hot(found, classes).movedim(-1, 1).float()


def test_errors_of_classes_by_hand() -> None:
    assert error_rate(certain(torch.tensor([0, 1, 2, 1])), torch.tensor([0, 1, 2, 0])) == 0.25
    assert error_rate(certain(torch.tensor([0, 1])), torch.tensor([1, 0])) == 1
    assert error_rate(certain(torch.tensor([0, 1])), torch.tensor([0, 1])) == 0


def test_errors_of_maps_by_hand() -> None:
    found = torch.tensor([[[0, 0, 1, 1], [0, 2, 0, 0]]])
    truth = torch.tensor([[[[0, 1, 1, 2], [0, 0, 0, 0]]]])
    assert error_rate(certain(found), truth) == 3 / 4, (
        "of four voxels that are foreground in one or the other, one is right"
    )
    assert error_rate(certain(truth[:, 0]), truth) == 0
    assert error_rate(certain(torch.zeros(1, 2, 4).long()), torch.zeros(1, 1, 2, 4).long()) == 0
