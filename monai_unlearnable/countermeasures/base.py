# SPDX-License-Identifier: Apache-2.0
"""What an exploiter does to the data before training: choose cases, learn from them, change images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

__all__ = ["Sample", "Material", "Prepared", "Countermeasure", "prepare"]

Sample = Mapping[str, Any]
Step = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Material:
    """What an exploiter has.

    Args:
        cases: training cases on offer: ``image`` and ``label`` as file names (or a class number), ``case_id``.
        load: reads a case: ``image`` a tensor (C, spatial...) in [0, 1], ``label`` class indices (1, spatial...) or a
            class number.
        originals: clean originals of the cases by case id; only for countermeasures that assume a leak.
        seed: of every random choice.
        device: where to learn.
    """

    cases: Sequence[Sample]
    load: Callable[[Sample], dict[str, Any]]
    originals: Mapping[str, Sample] = field(default_factory=dict)
    seed: int = 0
    device: str | torch.device = "cpu"


@dataclass(frozen=True)
class Prepared:
    """What an exploiter trains with.

    Args:
        cases: cases to train on.
        steps: dictionary transforms on images in [0, 1], for training and for test images.
    """

    cases: Sequence[Sample]
    steps: tuple[Step, ...] = ()


class Countermeasure(ABC):
    """A countermeasure that looks at the data first; those that do not are plain dictionary transforms."""

    @abstractmethod
    def prepare(self, material: Material) -> Prepared:
        """Decide on cases and transforms.

        Args:
            material: what the exploiter has; ``load`` applies the countermeasures that came before.

        Raises:
            InputError: when it needs what the material lacks.
        """


def prepare(steps: Sequence[Countermeasure | Step], material: Material) -> Prepared:
    """Go through countermeasures in their order; each sees images as the ones before it leave them.

    Args:
        steps: countermeasures and dictionary transforms.
        material: what the exploiter has.
    """
    transforms: list[Step] = []
    for step in steps:
        if isinstance(step, Countermeasure):
            prepared = step.prepare(material)
            material, new = replace(material, cases=prepared.cases), prepared.steps
        else:
            new = (step,)
        transforms += new
        material = replace(material, load=_chain(material.load, new))
    return Prepared(material.cases, tuple(transforms))


def _chain(load: Callable[[Sample], dict[str, Any]], steps: Sequence[Step]) -> Callable[[Sample], dict[str, Any]]:
    def chained(case: Sample) -> dict[str, Any]:
        sample = load(case)
        for step in steps:
            sample = step(sample)
        return sample

    return chained
