# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation: what every table, picture and page of a report is made of."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.report.rows import Summary, VictimRow, summarize
from monai_unlearnable.report.verdict import state_verdict

__all__ = ["Results", "VictimRow", "SCHEMA_VERSION"]

SCHEMA_VERSION = 1
LISTS = {"interval": 2, "per_class": None, "curve": None}  # fields of a row that hold numbers, and how many
NUMBERS = ("dice", "peak", "final_loss")
OPTIONAL_NUMBERS = ("psnr", "ssim")
TEXTS = ("training", "victim", "recipe")


@dataclass(frozen=True)
class Results:
    """An evaluation of one protected dataset.

    Args:
        title: heading of the report.
        method: name of the protection method.
        dataset: name of the dataset.
        figures: means over the scans of what the manifest measured: ``psnr`` and ``psnr_roi`` in dB, ``ssim``,
            ``ssim_roi``, ``linf`` in unit intensity, ``linf_sigma`` in standard deviations, ``l0`` as a share.
        rows: one for each victim trained.
        settings: whatever is worth knowing to repeat the evaluation; JSON-ready.
    """

    title: str
    method: str
    dataset: str
    figures: dict[str, float] = field(default_factory=dict)
    rows: list[VictimRow] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def summaries(self) -> list[Summary]:
        """Rows aggregated over seeds."""
        return summarize(self.rows)

    def verdict(self) -> str:
        """One paragraph in plain language; it says so where the protection failed or the control drops too."""
        return state_verdict(self.summaries())

    def to_json(self) -> str:
        """JSON text; NaN is written as null."""
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return json.dumps(_without_nan(content), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, file: Path | None = None) -> Results:
        """Results from JSON text.

        Args:
            text: what :meth:`to_json` gave.
            file: named in the error.

        Raises:
            InputError: when the text is broken, incomplete, or of another schema version.
        """
        try:
            content = json.loads(text)
            version = content.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise ValueError(f"schema version {version} is not the supported {SCHEMA_VERSION}")
            rows = [_row(row) for row in content.pop("rows")]
            results = cls(rows=rows, **content)
            _require(isinstance(results.figures, dict) and isinstance(results.settings, dict), "figures and settings")
            _require(all(isinstance(name, str) for name in (results.title, results.method, results.dataset)), "names")
            figures = {name: _number(value, name) for name, value in results.figures.items()}
            return dataclasses.replace(results, figures=figures)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else getattr(error, "reason", error)
            raise InputError(f"the results cannot be read: {reason}", file=file) from error

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Results from a file that :func:`~monai_unlearnable.report.html.write_report` wrote.

        Raises:
            InputError: naming the file, when it is missing or its content is broken.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"the results cannot be read: {error.strerror or error}", file=path) from error
        return cls.from_json(content, Path(path))


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} are not of the expected type")


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}, not a number")
    return float(value)


def _row(content: dict[str, Any]) -> VictimRow:
    row = dict(content)
    for name in TEXTS:
        _require(isinstance(row[name], str), f"values of {name!r}")
    for name in NUMBERS:
        row[name] = _number(row[name], name)
    for name in OPTIONAL_NUMBERS:
        row[name] = None if row[name] is None else _number(row[name], name)
    for name, length in LISTS.items():
        _require(isinstance(row[name], list) and length in (None, len(row[name])), f"values of {name!r}")
        row[name] = [_number(value, name) for value in row[name]]
    return VictimRow(**{**row, "interval": tuple(row["interval"])})
