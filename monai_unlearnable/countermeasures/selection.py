# SPDX-License-Identifier: Apache-2.0
"""Countermeasures that change which cases are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from monai_unlearnable.countermeasures.base import Countermeasure, Material, Prepared
from monai_unlearnable.countermeasures.classifiers import (
    FEATURES,
    LabeledVectors,
    fit_classifier,
    labeled_vectors,
    residual,
)
from monai_unlearnable.countermeasures.learning import choose_leaked
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import derive_seed, seeded
from monai_unlearnable.utils.values import check_positive

__all__ = ["MixClean", "IterativeFilter"]


@dataclass(frozen=True)
class MixClean(Countermeasure):
    """Puts the clean originals of some cases in their place; the number of cases stays the same.

    An exploiter who has that fraction of clean scans, or a publisher who protects only the rest. The cases of a
    small fraction are among those of a larger one, so that fractions compare.

    Args:
        fraction: fraction of the cases, in (0, 1]; rounded to whole cases, at least one.

    Raises:
        InputError: when the fraction is out of its range.
    """

    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            reason = f"the fraction of clean cases is {self.fraction}; it is above 0 and at most 1"
            raise InputError(reason, value=self.fraction, limit=1)

    def prepare(self, material: Material) -> Prepared:
        """Choose cases by the seed, and replace them.

        Raises:
            InputError: when too few originals are known.
        """
        count = max(1, int(self.fraction * len(material.cases) + 0.5))
        chosen = choose_leaked(material, count, "clean cases", derive_seed(material.seed, "mix clean"))
        names = {case[CaseKeys.CASE_ID] for case in chosen}
        clean = {name: {**material.originals[name], CaseKeys.CASE_ID: name} for name in names}
        return Prepared([clean.get(case[CaseKeys.CASE_ID], case) for case in material.cases])


@dataclass(frozen=True)
class IterativeFilter(Countermeasure):
    """Drops the cases that a simple model finds easiest.

    A model that is trained on protected and clean cases together fits the protected ones first, and so gives them away
    (Yu et al., Unlearnable Examples Detection via Iterative Filtering, 2024, arXiv:2408.08143, which trains a deep
    network with additional classes and relabels cases from round to round; and Zhu et al., Detection and Defense of
    Unlearnable Examples, AAAI 2024, for simple models). Ours is simpler:

    1. Each case becomes noise-like residuals, as a whole where its label is a class and in blocks where it is a map.
    2. A linear or two-layer model of the label is fitted to one half of the cases and gives the loss of each of the
       other half, and the other way round: no case can be known by heart.
    3. The ``fraction`` of cases with the lowest loss are the suspects. In the next round the models learn from the
       suspects alone, which sharpens the shortcut, and all cases are judged again.
    4. The suspects of the last round are dropped.

    Where cases have classes, each class loses the same fraction. Where no case is protected, or every one, the filter
    drops that fraction all the same, and its cost then is part of its price.

    Args:
        fraction: fraction of the cases to drop, between 0 and 1.
        rounds: number of rounds of judging.
        hidden: units of the hidden layer; 0 for a linear model.
        block: voxels an axis of a block; by default 8 in 2D and 4 in 3D.
        rows: blocks a case, drawn by the seed.
        iterations: largest number of L-BFGS iterations; few, since the filter seeks what is learned first.
        penalty: factor of the squared weights.

    Raises:
        InputError: when a number is out of its range.
    """

    fraction: float = 0.5
    rounds: int = 3
    hidden: int = 16
    block: int | None = None
    rows: int = 256
    iterations: int = 20
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            reason = f"the fraction of cases to drop is {self.fraction}; it is between 0 and 1"
            raise InputError(reason, value=self.fraction, limit=1)
        check_positive(**{name: value for name, value in vars(self).items() if name != "hidden"})

    def prepare(self, material: Material) -> Prepared:
        """Judge the cases and keep the others, in their order.

        Raises:
            InputError: when labels are missing or all the same, or there are too few cases to halve.
        """
        seed = derive_seed(material.seed, "iterative filter")
        samples = (material.load(case) for case in track(material.cases, "loading case"))
        vectors = labeled_vectors(samples, residual, self.block, self.rows, FEATURES, derive_seed(seed, "rows"))
        groups = vectors.targets.argmax(1) if vectors.whole else torch.zeros(len(material.cases), dtype=torch.long)
        if len(groups) < 4:
            raise InputError(f"there are {len(groups)} cases; the filter takes at least 4", value=len(groups), limit=4)
        half = _halves(groups, derive_seed(seed, "halves"))
        suspects = torch.ones(len(groups), dtype=torch.bool)
        for turn in track(range(self.rounds), "filtering cases, round"):
            losses = self._losses(vectors, half, suspects, derive_seed(seed, "model", turn))
            suspects = _lowest(losses, groups, self.fraction)
        return Prepared([case for case, suspect in zip(material.cases, suspects, strict=True) if not suspect])

    def _losses(self, vectors: LabeledVectors, half: Tensor, suspects: Tensor, seed: int) -> Tensor:
        """Loss of each case under a model that learned from suspects of the other half."""
        fit = partial(fit_classifier, hidden=self.hidden, penalty=self.penalty, iterations=self.iterations, seed=seed)
        losses = torch.zeros(len(half))
        for side in (0, 1):
            learn, judge = ((half == side) & suspects)[vectors.cases], (half != side)[vectors.cases]
            model = fit(vectors.values[learn], vectors.targets[learn])
            targets = vectors.targets[judge]
            surprise = -model.log_probabilities(vectors.values[judge]).float() * targets
            # Each class of a case counts alike, as in the fit: else large backgrounds decide.
            cases = vectors.cases[judge]
            by_class = torch.zeros(len(half), targets.shape[1]).index_add(0, cases, surprise)
            amount = torch.zeros_like(by_class).index_add(0, cases, targets)
            mean = (by_class / amount.clamp(min=1e-9)).sum(1) / (amount > 0).sum(1).clamp(min=1)
            losses = torch.where(half != side, mean, losses)
        return losses


def _halves(groups: Tensor, seed: int) -> Tensor:
    """0 or 1 for each case, evenly in each group."""
    order = torch.randperm(len(groups), generator=seeded(seed))
    order = order[groups[order].argsort(stable=True)]
    half = torch.zeros(len(groups), dtype=torch.long)
    half[order] = torch.arange(len(groups)) % 2
    return half


def _lowest(losses: Tensor, groups: Tensor, fraction: float) -> Tensor:
    """Whether a case is in the given fraction of its group that has the lowest losses; one of each group never is."""
    lowest = torch.zeros(len(losses), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        count = min(int(fraction * len(members) + 0.5), len(members) - 1)
        lowest[members[losses[members].argsort(stable=True)[:count]]] = True
    return lowest
