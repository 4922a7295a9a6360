# SPDX-License-Identifier: Apache-2.0
"""Items in groups, and items without repetition; both keep the order in which things come first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

__all__ = ["distinct", "grouped"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items of each key, keys in the order in which they come first."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def distinct(values: Iterable[K]) -> list[K]:
    """The values without repetition, in their order."""
    return list(dict.fromkeys(values))
