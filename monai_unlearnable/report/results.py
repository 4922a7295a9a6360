# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation, which every table, picture and page of a report is made from."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.frontier import FrontierLine, frontier_lines
from monai_unlearnable.report.rows import VictimRow, read_as, read_object
from monai_unlearnable.report.summaries import Summary, summarize
from monai_unlearnable.report.verdict import state_verdict
from monai_unlearnable.utils.files import without_nan

__all__ = ["RESULTS", "Results", "SCHEMA_VERSION"]

RESULTS = "results.json"
SCHEMA_VERSION = 2
LATER = ("regions", "detectors", "authorized", "scans")  # fields that the first files of this version lack
AUTHORIZED = {"data": str, "victim": str, "clean": float, "protected": float}  # fields of an authorized model


@dataclass(frozen=True)
class Results:
    """An evaluation on one dataset: methods × victims × recipes × countermeasures.

    Args:
        title: heading of the report.
        method: name of the protection method, or names.
        dataset: name of the dataset.
        figures: fidelity by name of the data: means over the scans. Known are ``psnr``, ``psnr_roi``, ``psnr_range``
            and ``psnr_5sigma`` in dB, ``ssim``, ``ssim_roi``, ``linf`` in normalized intensity, ``linf_sigma`` in
            standard deviations, ``l0`` as a fraction, ``noise_ratio`` to the scan's own noise; others are shown as they
            are.
        rows: rows, one for each victim trained.
        settings: everything needed to repeat the evaluation; JSON-ready.
        regions: relative change of each statistic of a region, by name of the data and of the class; 0.01 for 1%.
        authorized: scores of models trained on clean scans, ``{"data", "victim", "clean", "protected"}``, in percent
            on clean and on protected scans.
        detectors: area under the curve with its 95% interval, by name of the data and of the detector; values lie
            in [0, 1], where 0.5 is a guess.
        scans: fidelity of each scan, by name of the data and of the scan; the figures are those of ``figures``.
    """

    title: str
    method: str
    dataset: str
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: list[VictimRow] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    authorized: list[dict[str, Any]] = field(default_factory=list)
    detectors: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    scans: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The name of the scores; ``"score"`` where rows differ."""
        names = {row.metric for row in self.rows}
        return names.pop() if len(names) == 1 else "score"

    def summaries(self) -> list[Summary]:
        """Rows aggregated over seeds."""
        return summarize(self.rows)

    def frontier(self) -> list[FrontierLine]:
        """Score against fidelity of each method, victim and recipe without countermeasure, with its P50."""
        return frontier_lines(ControlledSummaries(self.summaries()))

    def failures(self) -> dict[str, int]:
        """How many runs have no score, by the reason: ``"diverged"`` or ``"failed: ..."``."""
        return dict(Counter(row.status for row in self.rows if not row.done))

    def verdict(self) -> str:
        """One paragraph in plain language; it says so where the protection does not hold or the control drops too."""
        return state_verdict(self.summaries())

    def to_json(self) -> str:
        """JSON text; NaN is written as null. The frontier, and whether curves still
        moved, are added for other programs, and not read back."""
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        content["frontier"] = [line.to_dict() for line in self.frontier()]
        content["rows"] = [{**row, "moving": own.moving} for row, own in zip(content["rows"], self.rows, strict=True)]
        return json.dumps(without_nan(content), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, file: Path | None = None) -> Results:
        """Results from JSON text.

        Args:
            text: result of :meth:`to_json`.
            file: name of the file, for the error.

        Raises:
            InputError: when the text is broken, incomplete, or of another schema version.
        """
        try:
            content = json.loads(text)
            if not isinstance(content, dict):
                raise ValueError("they are no object with fields")
            version = content.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise ValueError(f"schema version {version} is not the supported {SCHEMA_VERSION}")
            content.pop("frontier", None)
            for row in content.get("rows", ()):
                row.pop("moving", None)
            found = read_object(cls, content, "the file", optional=LATER)
            for entry in found.authorized:
                entry.update({name: read_as(kind, entry[name], name) for name, kind in AUTHORIZED.items()})
            if any(len(area) != 3 for areas in found.detectors.values() for area in areas.values()):
                raise ValueError("detectors need three numbers each")
            return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else getattr(error, "reason", error)
            raise InputError(f"the results cannot be read: {reason}", file=file) from error

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Results from a file that :func:`~monai_unlearnable.report.html.write_report` wrote, or from its folder.

        Raises:
            InputError: naming the file, when it is missing or its content is broken.
        """
        path = Path(path) / RESULTS if Path(path).is_dir() else Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"the results cannot be read: {error.strerror or error}", file=path) from error
        return cls.from_json(content, path)
