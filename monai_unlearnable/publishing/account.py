# SPDX-License-Identifier: Apache-2.0
"""What an output's noise is, in words for its owner: the records tell what is never published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.noise import DECIDED, Manifest
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.utils.text import of_255

__all__ = ["show"]

CARRIERS = "carriers"  # of the method of that name
CROPS = {"nonzero": "a crop to what is not zero", "foreground": "a crop to what is above the window's low end"}


def show(output_dir: str | Path, key: Key | str | Path | None = None) -> str:
    """The noise of an output in words, a line for each fact and each class.

    Args:
        output_dir: an output with ``noise/``.
        key: the owner's key or its file, where the output is encrypted.

    Raises:
        KeyMismatchError: naming the manifest, when it takes another key, or none.
        NoiseError: naming the manifest, when it cannot be read.
    """
    manifest = Manifest.load(Layout(output_dir).manifest, load_key(key))
    return "\n".join(f"{name:<12} {text}" for name, text in [("method", manifest.method), *_lines(manifest.run)])


def _lines(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    epsilon = run["budget"]["epsilon"]
    yield "budget", f"{of_255(epsilon)} of the intensity window"
    perturber, values = run["perturber"], run.get("label_values")
    for kind, row in enumerate(run.get(DECIDED, {}).get(CARRIERS, ())):
        yield f"class {kind}", _carriers(row, perturber["spatial_dims"], epsilon) + _aside(kind, values)
    if grid := perturber.get("grid"):
        yield "grid", _grid(grid)


def _carriers(row: Sequence[Mapping[str, Any]], dims: int, epsilon: float) -> str:
    """``"rows (0, 1, 0), sign +, 14/255"``."""
    return "; ".join(_carrier(part["axes"], part["weight"], dims, epsilon) for part in row) or "no noise"


def _carrier(axes: Sequence[int], weight: float, dims: int, epsilon: float) -> str:
    along = tuple(int(axis in axes) for axis in range(dims))
    name = "rows" if len(axes) == 1 else "checkerboard"
    return f"{name} {along}, sign {'+' if weight > 0 else '-'}, {of_255(epsilon * abs(weight))}"


def _aside(kind: int, values: Sequence[int] | None) -> str:
    """What a class is, where its number does not tell."""
    if values is None:
        return ""
    if kind == 0:
        return " (background, where the mask allows noise there)"
    return "" if values[kind] == kind else f" (label value {values[kind]})"


def _grid(grid: Mapping[str, Any]) -> str:
    spacing = " x ".join(f"{distance:.4g}" for distance in grid["spacing"])
    crop = CROPS.get(grid.get("crop", "none"))
    return f"planned for {spacing} mm{f', after {crop}' if crop else ''}"
