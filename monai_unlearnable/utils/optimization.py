# SPDX-License-Identifier: Apache-2.0
"""The training loop of the exploiter's models: AdamW on a one-cycle schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from monai_unlearnable.utils.progress import Stage
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed

__all__ = ["minimize", "one_cycle"]


def one_cycle(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], learning_rate: float, iterations: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """AdamW and its schedule.

    Args:
        parameters: parameters to train, or groups of them (``params``), each with a peak of its own under ``lr``.
        learning_rate: peak of the schedule.
        iterations: training steps, each followed by one of the schedule.
    """
    optimizer = torch.optim.AdamW(parameters, learning_rate, fused=True)  # one kernel for all weights
    peaks = [group["lr"] for group in optimizer.param_groups]
    # One more than there are: the last training step is followed by a step of the schedule too.
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=iterations + 1)


def minimize(
    network: nn.Module,
    loss: Callable[[], Tensor],
    iterations: int,
    learning_rate: float,
    seed: int,
    clip: float | None = None,
    description: str = "learning",
) -> list[float]:
    """Train a network behind a progress bar.

    Args:
        network: network to train in place, on its device; it is left in training mode.
        loss: function that computes the loss of a new batch.
        iterations: training steps.
        learning_rate: peak of the schedule.
        seed: random seed of the loss; torch's generator is put back afterwards.
        clip: largest norm of the gradient; None for any.
        description: what is trained, for the progress.

    Returns:
        The loss of each step.
    """
    network.train()
    optimizer, schedule = one_cycle(network.parameters(), learning_rate, iterations)
    losses: list[float] = []
    with Stage(f"{description}, step", iterations) as stage, isolated_seed(derive_seed(seed, "training")):
        for _ in range(iterations):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            schedule.step()
            losses.append(value.item())
            stage.advance(note=f"loss {losses[-1]:.3f}")
    return losses
