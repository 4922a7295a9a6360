# SPDX-License-Identifier: Apache-2.0
"""The owner's mark and those of keys that nobody has."""

from __future__ import annotations

from dataclasses import dataclass

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import Perturber
from monai_unlearnable.utils.seeding import derive_seed, is_secret

__all__ = ["OWN", "Marks"]

OWN = 0  # the number of the owner's mark


@dataclass(frozen=True)
class Marks:
    """Marks by number: 0 is the owner's; 1, 2, ... are drawn like it, from seeds that follow from the owner's.

    Args:
        perturber: the method as it protected the set.
        epsilon: largest change of a voxel that shows a mark to a model; by default that of the set.

    Raises:
        InputError: when the noise is no mark, or not secret.
    """

    perturber: Perturber
    epsilon: float | None = None

    def __post_init__(self) -> None:
        name = type(self.perturber).__name__
        if not self.perturber.draws_mark:
            reason = f"the set cannot be traced: the noise of {name} is not drawn from a key alone"
            raise InputError(f"{reason}; protect with carrier --carriers keyed or lattice --code keyed, and a key")
        if not is_secret(self.seed):
            reason = "the set cannot be traced: it was protected without a key, so that anyone can know its mark"
            raise InputError(f"{reason}; protect with --key")

    @property
    def seed(self) -> int:
        """The owner's secret seed."""
        return int(self.perturber.seed)  # type: ignore[arg-type]

    def mark(self, number: int) -> Perturber:
        """The method with a mark."""
        seed = self.seed if number == OWN else derive_seed(self.seed, "other mark", number)
        return self.perturber.with_seed(seed, self.epsilon)
