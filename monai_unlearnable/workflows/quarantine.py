# SPDX-License-Identifier: Apache-2.0
"""Cases that cannot be read are left out and listed, where a run of many is not to stop for one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from monai_unlearnable.errors import InputError, ScanError, UnlearnableError, VerificationError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.progress import track
from monai_unlearnable.scans import Case, DatasetSummary, inspect_cases
from monai_unlearnable.scans.atomic import write_json

__all__ = ["Quarantine"]

logger = logging.getLogger(__name__)


class Quarantine:
    """Keeps bad cases out of a run, and says so at its end.

    Args:
        output_dir: gets ``quarantine.json``, the reason of each case that is left out.
        enabled: else all cases are let in as they are, and the run stops at the first bad one.
    """

    def __init__(self, output_dir: str | Path, enabled: bool = False) -> None:
        self.path, self.enabled = Path(output_dir) / "quarantine.json", enabled
        self.reasons: dict[str, str] = {}

    def admit(self, cases: Sequence[Case], window: WindowRule, label_values: Sequence[int] | None = None) -> list[Case]:
        """The cases that can be protected, each read as :func:`~monai_unlearnable.scans.inspect_cases` does.

        Raises:
            InputError: when there is none.
        """
        if not self.enabled:
            return list(cases)
        admitted: list[Case] = []
        first: DatasetSummary | None = None
        for case in track(cases, "inspect"):
            try:
                summary = inspect_cases([case], window, label_values, first.channels if first else None)
                first = first or summary
                _refuse_unlike(case, summary, first)
                admitted.append(case)
            except UnlearnableError as error:
                self.reasons[case.case_id] = str(error)
                logger.warning("left out: %s", error)
        if not admitted:
            raise InputError(f"no case can be protected; the first: {next(iter(self.reasons.values()), 'none given')}")
        return admitted

    def close(self) -> None:
        """Write the list; call it when the others are protected.

        Raises:
            VerificationError: naming the list, when cases were left out: the dataset is not what it was to be.
        """
        self.path.unlink(missing_ok=True)
        if self.reasons:
            write_json(self.path, self.reasons)
            names = ", ".join(list(self.reasons)[:5]) + (", ..." if len(self.reasons) > 5 else "")
            reason = f"{len(self.reasons)} cases were left out and the others protected: {names}"
            raise VerificationError(reason, file=self.path)


def _refuse_unlike(case: Case, summary: DatasetSummary, first: DatasetSummary) -> None:
    found, expected = ((s.spatial_dims, s.is_segmentation) for s in (summary, first))
    if found != expected:
        reason = f"a {found[0]}D scan with{'' if found[1] else 'out'} a label map, which the first case is not"
        raise ScanError(reason, case=case.case_id, file=case.root / case.images[0])
