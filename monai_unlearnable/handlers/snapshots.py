# SPDX-License-Identifier: Apache-2.0
"""Surrogates of several ages, kept while they are trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

__all__ = ["Snapshots"]


class Snapshots:
    """Appends a copy of a network to a list after every so many epochs, and after the last one in any case.

    It has a state, so that a resumed run (:class:`~monai_unlearnable.handlers.ResumableCheckpoint`) has them all.

    Args:
        network: what is trained.
        target: gets the copies, such as :attr:`GradientNoise.networks`.
        interval: epochs between two copies; 0 for the last one only.
    """

    def __init__(self, network: nn.Module, target: nn.ModuleList, interval: int = 1) -> None:
        self.network, self.target, self.interval = network, target, interval
        self.blank = copy.deepcopy(network)  # one that has run, such as MONAI's DynUNet, may not be copied any more

    def attach(self, engine: Engine) -> None:
        """Watch the epochs of ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._collect)

    def _collect(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs
        if epoch == last or (self.interval and epoch % self.interval == 0):
            self._append()

    def _append(self) -> None:
        snapshot = copy.deepcopy(self.blank).eval().requires_grad_(False)
        snapshot.load_state_dict(self.network.state_dict())
        self.target.append(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """The weights of all copies."""
        return {"snapshots": [snapshot.state_dict() for snapshot in self.target]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the copies again."""
        while len(self.target):
            self.target.pop(-1)
        for weights in state["snapshots"]:
            self._append()
            self.target[-1].load_state_dict(weights)
