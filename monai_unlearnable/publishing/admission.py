# SPDX-License-Identifier: Apache-2.0
"""Which cases of a dataset are protected together, and what becomes of the others."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import Key
from monai_unlearnable.crypto.encrypted import place, places, read_owned, write_owned
from monai_unlearnable.data import Case, DatasetSummary, LabelGeometry, inspect_cases
from monai_unlearnable.errors import InputError, NoiseError, SkippedCasesError, UnlearnableError, told
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.arrays import COLOR, GRAY
from monai_unlearnable.utils.files import encode_json, remove
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import counted, first_few

__all__ = ["Admitted", "admit", "skipped_cases"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admitted:
    """The cases that are protected together, and the reasons why others are skipped.

    Args:
        cases: those that are protected.
        reasons: reason by id of each case that is skipped.
    """

    cases: list[Case]
    reasons: dict[str, str] = field(default_factory=dict)

    def report(self, path: Path, key: Key | None) -> None:
        """List the skipped cases in a file, encrypted with a key: their names are not published.

        Raises:
            SkippedCasesError: naming the list, when cases were skipped: the dataset is incomplete.
        """
        if distributed.rank() == 0:
            for earlier in places(path):
                remove(earlier)
            if self.reasons:
                write_owned(path, encode_json(self.reasons), key)
        if self.reasons:
            told = f"{counted(len(self.reasons), 'case')} {'was' if len(self.reasons) == 1 else 'were'} skipped"
            reason = f"{told} and the others protected: {first_few(self.reasons)}"
            raise SkippedCasesError(reason, file=place(path, key))


def skipped_cases(layout: Layout, key: Key | None) -> dict[str, str]:
    """The reasons by id of the cases that an output lacks, because they were skipped.

    Raises:
        NoiseError: naming the list, when it cannot be read.
    """
    try:
        return {str(case): str(reason) for case, reason in json.loads(read_owned(layout.skipped, key)).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, UnlearnableError):
            raise
        raise NoiseError(f"the list of skipped cases cannot be read: {told(error)}", file=layout.skipped) from error


def admit(
    cases: Sequence[Case],
    window: WindowRule,
    label_values: Sequence[int] | None = None,
    budget: Budget | None = None,
    label_geometry: str = LabelGeometry.MATCH,
) -> Admitted:
    """Select the cases that can be protected together: each is readable, and of the same kind as most are.

    Args:
        cases: the dataset.
        window: rule for the intensity windows, see :func:`~monai_unlearnable.data.inspect_cases`.
        label_values: stored label value of each class; None for all values found.
        budget: budget that each case must be able to keep to.
        label_geometry: whether labels must lie where their images lie.

    Raises:
        InputError: when there are no such cases.
    """
    kinds: dict[str, tuple[int, int, str]] = {}
    reasons: dict[str, str] = {}
    words: dict[str, str] = {}
    for case in track(cases, "checking case"):
        try:
            found = inspect_cases(
                [case], window, label_values, budget=budget, roughness=False, label_geometry=label_geometry
            )
            kinds[case.case_id], words[case.case_id] = _kind(case, found)
        except UnlearnableError as error:
            reasons[case.case_id] = str(error)
    if not kinds:
        raise InputError(f"no case can be protected; the first: {next(iter(reasons.values()), 'none given')}")
    usual = Counter(kinds.values()).most_common(1)[0][0]
    for case in cases:
        if kinds.get(case.case_id, usual) != usual:
            known = next(words[other] for other, kind in kinds.items() if kind == usual)
            reasons[case.case_id] = f"{case.case_id}: {words[case.case_id]}, where most cases are {known}"
    for reason in reasons.values():
        logger.warning("skipped: %s", reason)
    return Admitted([case for case in cases if kinds.get(case.case_id) == usual], reasons)


def _kind(case: Case, found: DatasetSummary) -> tuple[tuple[int, int, str], str]:
    """What cases that are protected together have in common: dimensions, channels, kind of label; and that in words.

    Gray and color pictures are of one kind.

    Raises:
        LabelError: when the label looks like a smooth mask, or an image.
    """
    for error in found.doubtful:
        raise error
    label = "a label map" if case.label is not None else "a class" if case.target is not None else "no label"
    label = f"the tasks {', '.join(case.tasks)}" if case.tasks else label
    dims, channels = found.spatial_dims, found.channels
    together = dims == 2 and channels in (GRAY, COLOR)
    return (dims, COLOR if together else channels, label), f"{dims}D with {channels} channels and {label}"
