# SPDX-License-Identifier: Apache-2.0
"""Results from parsed JSON."""

from __future__ import annotations

from typing import Any

from monai_unlearnable.report.rows import VictimRow
from monai_unlearnable.report.values import read_number, read_tree, read_triple, require

__all__ = ["read_results"]


def read_results(content: dict[str, Any]) -> dict[str, Any]:
    """The arguments of :class:`~monai_unlearnable.report.results.Results` from an object of JSON.

    Raises:
        ValueError, KeyError, TypeError: saying what is missing or of the wrong type.
    """
    require(all(isinstance(content[name], str) for name in ("title", "method", "dataset")), "names")
    require(isinstance(content["settings"], dict), "settings")
    return {
        **content,
        "rows": [VictimRow.from_dict(row) for row in content["rows"]],
        "figures": read_tree(content["figures"], "figures", 2),
        "regions": read_tree(content.get("regions", {}), "regions", 3),
        "detectors": read_tree(content.get("detectors", {}), "detectors", 2, read_triple),
        "authorized": [_authorized(entry) for entry in content.get("authorized", [])],
    }


def _authorized(entry: dict[str, Any]) -> dict[str, Any]:
    require(all(isinstance(entry[name], str) for name in ("data", "victim")), "names of authorized models")
    return {**entry, **{name: read_number(entry[name], name) for name in ("clean", "protected")}}
