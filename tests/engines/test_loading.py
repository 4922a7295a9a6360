# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset

from monai_unlearnable.engines import EpochLoader


def drawn(weights: list[float] | None = None, seed: int = 0, epochs: int = 2, batches: int = 5) -> list[list[int]]:
    """The cases of each epoch, of four."""
    loader = EpochLoader(Dataset([{"case": index} for index in range(4)]), 3, batches, seed, weights)
    found: list[list[int]] = []
    engine = Engine(lambda engine, batch: found[-1].extend(batch["case"].tolist()))
    loader.attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: found.append([]))
    engine.run(loader, max_epochs=epochs, epoch_length=batches)
    return found


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 2.0, 4.0]])
def test_cases_depend_on_seed_and_epoch_alone(weights: list[float] | None) -> None:
    torch.manual_seed(1)
    first = drawn(weights)
    torch.manual_seed(2)
    assert drawn(weights) == first and drawn(weights, seed=1) != first
    assert [len(epoch) for epoch in first] == [15, 15] and first[0] != first[1]
    assert drawn(weights, epochs=1) == first[:1]


def test_all_cases_are_drawn_alike_unless_they_have_weights() -> None:
    counts = Counter(drawn(epochs=1, batches=20)[0])
    assert set(counts.values()) == {15}
    counts = Counter(drawn([0.0, 1.0, 1.0, 2.0], epochs=1, batches=200)[0])
    assert 0 not in counts and counts[3] == pytest.approx(300, abs=50) and counts[1] == pytest.approx(150, abs=40)
