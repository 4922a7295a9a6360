# SPDX-License-Identifier: Apache-2.0
"""What is noted while a victim trains, and when it has trained for long enough."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["History"]


@dataclass
class History:
    """Loss and scores on the way.

    Args:
        patience: looks without a better score on held-out training data after which to stop; None for never.
        loss: of the last step.
        test: scores on the test cases.
        validation: scores on held-out training data.
        best: weights at the best of these; None where they are not needed.
    """

    patience: int | None = None
    loss: float = math.nan
    test: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss is no number any more."""
        return not math.isfinite(self.loss)

    def look(self, network: nn.Module, test: float, validation: float | None = None) -> bool:
        """Note the scores of a moment.

        Args:
            network: as it is now.
            test: its score on the test cases.
            validation: its score on held-out training data, where there are any.

        Returns:
            Whether to stop.
        """
        self.test.append(test)
        if validation is None:
            return False
        self.validation.append(validation)
        if self.patience is None:
            return False
        if validation > max(self.validation[:-1], default=-math.inf):
            self.best = copy.deepcopy(network.state_dict())
        best = self.validation.index(max(self.validation))
        return len(self.validation) - 1 - best >= self.patience
