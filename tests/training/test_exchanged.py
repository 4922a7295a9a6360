# SPDX-License-Identifier: Apache-2.0
"""Surrogates and noise that are told other labels than those of the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monai_unlearnable.perturbers import MultiTaskNoise
from monai_unlearnable.training import ExchangedLabels, ProtectionTrainer, SurrogatePool
from monai_unlearnable.utils.heads import TaskHeads
from tests.helpers import small_surrogate

LABELS = {"one": torch.arange(12) % 3, "two": torch.stack([torch.arange(12) % 2, torch.arange(12) // 6], dim=1)}


class Told(MultiTaskNoise):
    """Keeps the labels that noise is made for."""

    def delta(self, image: Tensor, case_ids: Any, label: Tensor | None = None, support: Tensor | None = None) -> Tensor:
        self.label = label
        return super().delta(image, case_ids, label, support)


@pytest.mark.parametrize("kind", LABELS)
def test_noise_and_loss_have_the_same_labels_each_task_in_an_order_of_its_own(kind: str) -> None:
    label, counts = LABELS[kind], {"one": (3,), "two": (2, 2)}[kind]
    perturber = Told(2, 1, counts, ("a", "b")[: len(counts)] if len(counts) > 1 else (), channels=(2, 2))
    seen: list[Tensor] = []

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        seen.append(truth)
        assert perturber.label is not None and torch.equal(truth, perturber.label)
        return cross_entropy(logits, truth)

    batch = {"image": torch.rand(12, 1, 16, 16), "label": label, "case_id": [str(index) for index in range(12)]}
    pool = SurrogatePool(TaskHeads(small_surrogate(classes=sum(counts)), counts))
    optimizer = torch.optim.Adam(perturber.parameters())
    ProtectionTrainer("cpu", 1, [batch] * 2, pool, perturber, optimizer, loss, ExchangedLabels()).run()
    first, second = (found.reshape(12, -1).T for found in seen)
    for own, told, again in zip(label.reshape(12, -1).T, first, second, strict=True):
        assert torch.equal(told.sort().values, own.sort().values)
        assert not torch.equal(told, own) and not torch.equal(told, again)
