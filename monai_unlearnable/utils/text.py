# SPDX-License-Identifier: Apache-2.0
"""Text for messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["first_few"]

FEW = 5


def first_few(names: Iterable[str], count: int = FEW) -> str:
    """The first names, and dots where there are more: ``"a, b, ..."``."""
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")
