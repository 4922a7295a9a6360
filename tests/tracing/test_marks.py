# SPDX-License-Identifier: Apache-2.0
"""Marks: drawn alike for every key, and bound to it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from scipy import stats

from monai_unlearnable.crypto import OwnerKey, secret_seed
from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import LinearPatterns, NyquistCarriers, SymmetricLattice
from monai_unlearnable.tracing.marks import OWN, Marks

KEY = OwnerKey(bytes(range(32)))
SEED = secret_seed(0, KEY)


def keyed(seed: int = SEED, **arguments: object) -> NyquistCarriers:
    return NyquistCarriers(2, 3, carriers="keyed", seed=seed, **arguments)  # type: ignore[arg-type]


def code(perturber: NyquistCarriers) -> tuple[int, ...]:
    """The carriers of the labeled class."""
    return tuple(torch.nonzero(perturber.weights[1]).flatten().tolist())


def test_codes_of_all_keys_are_drawn_alike() -> None:
    """The owner's code is one of a fixed list, each as likely as any other; so are those of nobody's keys."""
    owners = Counter(code(keyed(secret_seed(0, OwnerKey.generate()))) for _ in range(700))
    marks = Marks(keyed())
    others = Counter(code(marks.mark(number)) for number in range(1, 701))  # type: ignore[arg-type]
    for drawn in (owners, others):
        assert len(drawn) == 7
        assert stats.chisquare([drawn[key] for key in sorted(drawn)]).pvalue > 1e-4


def test_classes_have_different_codes() -> None:
    marks = (NyquistCarriers(4, 3, carriers="keyed", mixture=[0.6, 0.4], seed=seed) for seed in range(20))
    for mark in marks:
        assert len({tuple(row.abs().tolist()) for row in mark.weights}) == 4


def test_a_mixture_keeps_to_epsilon() -> None:
    image, label = torch.zeros(1, 1, 8, 8, 8), torch.ones(1, 1, 8, 8, 8, dtype=torch.long)
    noise = keyed(mixture=[0.5, 0.3, 0.2], epsilon=0.1).delta(image, ["a"], label)
    assert noise.abs().max() == pytest.approx(0.1)


def test_the_owners_mark_is_that_of_the_set() -> None:
    protected, shown = keyed(), Marks(keyed(), epsilon=0.05).mark(OWN)
    assert torch.equal(shown.weights, protected.weights)  # type: ignore[arg-type]
    assert shown.epsilon == 0.05


def test_the_commitment_tells_marks_apart() -> None:
    assert keyed().mark_digest() == keyed().mark_digest()
    assert keyed().mark_digest() != keyed(secret_seed(1, KEY)).mark_digest()


def test_noise_without_a_secret_is_no_mark() -> None:
    with pytest.raises(InputError, match=r"without a key.*--key"):
        Marks(keyed(seed=0))
    for perturber in (SymmetricLattice(), NyquistCarriers(2, 3), LinearPatterns(granularity="case", seed=SEED)):
        with pytest.raises(InputError, match="cannot be traced"):
            Marks(perturber)


@pytest.mark.parametrize("mixture", [[], [0.5, 0.6], [1.2, -0.2], [0.1] * 10, 0.5, "words", {"a": 1}])
def test_weights_of_a_mixture_are_shares(mixture: Any) -> None:
    with pytest.raises(InputError, match="positive weights of sum 1"):
        keyed(mixture=mixture)
