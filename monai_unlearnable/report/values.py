# SPDX-License-Identifier: Apache-2.0
"""Values of parsed JSON, every one checked: a report never shows what it could not read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["read_number", "read_numbers", "read_triple", "read_tree", "require"]


def require(condition: bool, what: str) -> None:
    """Raise ValueError, saying that ``what`` is of the wrong type, unless the condition holds."""
    if not condition:
        raise ValueError(f"{what} are not of the expected type")


def read_number(value: Any, name: str) -> float:
    """A number; null is NaN.

    Raises:
        ValueError: naming the field, when it is none.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}, not a number")
    return float(value)


def read_numbers(values: Any, name: str) -> list[float]:
    """A list of numbers."""
    require(isinstance(values, list), f"values of {name!r}")
    return [read_number(value, name) for value in values]


def read_triple(values: Any, name: str) -> list[float]:
    """A list of three numbers."""
    numbers = read_numbers(values, name)
    require(len(numbers) == 3, f"values of {name!r}")
    return numbers


def read_tree(content: Any, name: str, depth: int, reader: Callable[[Any, str], Any] = read_number) -> dict[str, Any]:
    """Nested objects.

    Args:
        content: what the JSON holds.
        name: for errors.
        depth: number of levels.
        reader: of the leaves.
    """
    require(isinstance(content, dict), name)
    if depth == 1:
        return {key: reader(value, key) for key, value in content.items()}
    return {key: read_tree(value, f"{name} of {key!r}", depth - 1, reader) for key, value in content.items()}
