# SPDX-License-Identifier: Apache-2.0
"""Heads of several tasks are trained as classifiers of their own would be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.heads import TaskHeads


def test_the_loss_is_the_mean_of_those_of_the_tasks() -> None:
    outputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    label = torch.tensor([[0, 2], [1, 1], [0, 0], [1, 2], [0, 1], [1, 0]])
    loss = cross_entropy(TaskHeads(nn.Identity(), (2, 3))(outputs), label)
    (gradient,) = torch.autograd.grad(loss, outputs)
    expected = (cross_entropy(outputs[:, :2], label[:, 0]) + cross_entropy(outputs[:, 2:], label[:, 1])) / 2
    assert torch.allclose(loss, expected)
    assert torch.allclose(gradient, torch.autograd.grad(expected, outputs)[0], atol=1e-7)


def test_a_class_that_a_task_lacks_is_never_found() -> None:
    logits = TaskHeads(nn.Identity(), (2, 3))(torch.full((1, 5), -50.0))
    assert logits.shape == (1, 3, 2) and logits.softmax(1)[0, 2, 0] == 0


def test_one_task_needs_no_heads() -> None:
    outputs = torch.randn(2, 3)
    assert torch.equal(TaskHeads(nn.Identity(), (3,))(outputs), outputs)
    with pytest.raises(InputError, match="nothing to tell apart"):
        TaskHeads(nn.Identity(), ())
