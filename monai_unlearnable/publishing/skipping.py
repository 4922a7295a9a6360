# SPDX-License-Identifier: Apache-2.0
"""Cases that cannot be read are left out and listed, where a run of many is not to stop for one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto.encrypted import Key, place, places, write_owned
from monai_unlearnable.data import Case, DatasetSummary, inspect_cases
from monai_unlearnable.errors import InputError, SkippedCasesError, UnlearnableError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.utils.files import encode_json
from monai_unlearnable.utils.progress import track

__all__ = ["Quarantine"]

logger = logging.getLogger(__name__)


class Quarantine:
    """Keeps bad cases out of a run, and says so at its end.

    Args:
        output_dir: gets ``quarantine.json``, the reason of each case that is left out.
        enabled: else all cases are let in as they are, and the run stops at the first bad one.
        key: the owner's, to seal the list: its names are not published.
    """

    def __init__(self, output_dir: str | Path, enabled: bool = False, key: Key | None = None) -> None:
        self.path, self.enabled, self.key = Path(output_dir) / "quarantine.json", enabled, key
        self.reasons: dict[str, str] = {}

    def admit(
        self,
        cases: Sequence[Case],
        window: WindowRule,
        label_values: Sequence[int] | None = None,
        budget: Budget | None = None,
    ) -> list[Case]:
        """The cases that can be protected together: each can be read, and they are of the kind that most are of.

        Args:
            cases: the dataset.
            window: see :func:`~monai_unlearnable.data.inspect_cases`.
            label_values: see there.
            budget: see there.

        Raises:
            InputError: when there is none.
        """
        if not self.enabled:
            return list(cases)
        kinds: dict[str, tuple[Any, ...]] = {}
        for case in track(cases, "inspect"):
            try:
                summary = inspect_cases([case], window, label_values, budget=budget, roughness=False)
                kinds[case.case_id] = _kind(case, summary)
            except UnlearnableError as error:
                self._leave_out(case, str(error))
        if not kinds:
            raise InputError(f"no case can be protected; the first: {next(iter(self.reasons.values()), 'none given')}")
        usual = Counter(kinds.values()).most_common(1)[0][0]
        for case in cases:
            if kinds.get(case.case_id, usual) != usual:
                found, most = map(_words, (kinds[case.case_id], usual))
                self._leave_out(case, f"{case.case_id}: {found}, where most cases are {most}")
        return [case for case in cases if kinds.get(case.case_id) == usual]

    def _leave_out(self, case: Case, reason: str) -> None:
        self.reasons[case.case_id] = reason
        logger.warning("left out: %s", reason)

    def close(self) -> None:
        """Write the list; call it when the others are protected.

        Raises:
            SkippedCasesError: naming the list, when cases were left out: the dataset is not what it was to be.
        """
        for path in places(self.path):
            path.unlink(missing_ok=True)
        if self.reasons:
            write_owned(self.path, encode_json(self.reasons), self.key)
            names = ", ".join(list(self.reasons)[:5]) + (", ..." if len(self.reasons) > 5 else "")
            reason = f"{len(self.reasons)} cases were left out and the others protected: {names}"
            raise SkippedCasesError(reason, file=place(self.path, self.key))


def _kind(case: Case, summary: DatasetSummary) -> tuple[Any, ...]:
    return summary.spatial_dims, summary.channels, case.label is not None, case.target is not None


def _words(kind: tuple[Any, ...]) -> str:
    dims, channels, has_map, has_class = kind
    label = "a label map" if has_map else "a class" if has_class else "no label"
    return f"{dims}D with {channels} channels and {label}"
