# SPDX-License-Identifier: Apache-2.0
"""Clean cases among the protected ones."""

from __future__ import annotations

from monai_unlearnable.countermeasures.base import Countermeasure, Material, Prepared
from monai_unlearnable.countermeasures.learning import choose_leaked
from monai_unlearnable.errors import InputError
from monai_unlearnable.keys import CaseKeys
from monai_unlearnable.seeding import derive_seed

__all__ = ["MixClean"]


class MixClean(Countermeasure):
    """Puts the clean originals of some cases in their place; the number of cases stays the same.

    An exploiter who has that share of clean scans, or a publisher who protects only the rest. The cases of a
    small share are among those of a larger one, so that shares compare.

    Args:
        share: of the cases, above 0 and up to 1; rounded to whole cases, at least one.

    Raises:
        InputError: when the share is out of its range.
    """

    def __init__(self, share: float) -> None:
        if not 0 < share <= 1:
            raise InputError(f"the share of clean cases is {share}; it is above 0 and at most 1", value=share, limit=1)
        self.share = share

    def prepare(self, material: Material) -> Prepared:
        """Choose cases by the seed, and replace them.

        Raises:
            InputError: when too few originals are known.
        """
        count = max(1, int(self.share * len(material.cases) + 0.5))
        chosen = choose_leaked(material, count, "clean cases", derive_seed(material.seed, "mix clean"))
        clean = {
            case_id: {**material.originals[case_id], CaseKeys.CASE_ID: case_id}
            for case_id in (case[CaseKeys.CASE_ID] for case in chosen)
        }
        return Prepared([clean.get(case[CaseKeys.CASE_ID], case) for case in material.cases])
