# SPDX-License-Identifier: Apache-2.0
"""The findings of checks of published files, in one list and one form for ``verify`` and ``audit``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import Finding, UnlearnableError, VerificationError
from monai_unlearnable.report.fidelity import figure_name, format_figure
from monai_unlearnable.utils.files import reading, without_nan
from monai_unlearnable.utils.grouping import distinct

__all__ = ["CheckReport", "Findings", "figure_ranges"]

HOLDS, FAILS = "every file is as recorded, and there is no other", "NOT AS RECORDED"


class Findings(list[Finding]):
    """The findings of a check that goes on after each of them."""

    def equal(self, what: str, found: Any, claimed: Any, file: str | Path, case: str | None = None) -> bool:
        """Add a finding unless two values are equal, and return whether they are."""
        if found != claimed and repr(found) != repr(claimed):  # NaN is not equal to itself
            self.append(Finding(file, what, found, claimed, case))
            return False
        return True

    @contextmanager
    def collecting(self, file: Path, case: str | None = None) -> Iterator[None]:
        """Run a part of a check: the error that ends it becomes a finding.

        Records travel with files that others may have written, so a value of another kind than the record should hold
        is a finding too.

        Args:
            file: file concerned, if the error names none.
            case: case concerned, if the error names none.
        """
        try:
            with reading(file):
                yield
        except UnlearnableError as error:
            concerned = error.file or file
            self.append(Finding(concerned, error.reason, error.value, error.limit, error.case or case))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            self.append(Finding(file, f"cannot be checked: {type(error).__name__}: {error}", case=case))


@dataclass(frozen=True)
class CheckReport:
    """What a check of published files found.

    Args:
        method: the method that the record names.
        versions: versions of the packages that made the files.
        files: number of recorded files.
        figures: lowest and highest value of each recorded figure.
        findings: every claim that does not hold; empty where all do.
        signature: state of the record's signature, if the record is one for third parties.
        unchanged: ids of the scans that are published as they were, where the record is the owner's.
    """

    method: str
    versions: Mapping[str, str]
    files: int
    figures: Mapping[str, tuple[float, float]]
    findings: tuple[Finding, ...]
    signature: str | None = None
    unchanged: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The report as JSON, for programs."""
        content = without_nan({"holds": not self.findings, **dataclasses.asdict(self)})
        return json.dumps(content, indent=1, default=str)

    def page(self) -> str:
        """The report for people."""
        versions = ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))
        facts = {"method": self.method, "made with": versions, "files": str(self.files)}
        for name, ends in self.figures.items():
            facts[figure_name(name)] = " to ".join(distinct(format_figure(name, end) for end in ends))
        if self.signature is not None:
            facts["signature"] = self.signature
        lines = [f"{name:<14} {text}" for name, text in facts.items()]
        return "\n".join([*lines, FAILS if self.findings else HOLDS, *(f"  {finding}" for finding in self.findings)])

    def error(self) -> VerificationError:
        """The error of a failed check: it names the first finding, counts the others, and holds all."""
        first, others = self.findings[0], len(self.findings) - 1
        more = f" (and {others} more {'finding' if others == 1 else 'findings'})" if others else ""
        about = {"case": first.case, "file": first.file, "value": first.found, "limit": first.claimed}
        return VerificationError(f"{first.reason}{more}", findings=self.findings, **about)


def figure_ranges(measured: Iterable[Mapping[str, float]], names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each figure.

    Args:
        measured: figures of each scan.
        names: figures that every scan has.
    """
    scans = list(measured)
    values = {name: [scan[name] for scan in scans] for name in names}
    return {name: (min(found), max(found)) for name, found in values.items()}
