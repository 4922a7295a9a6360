# SPDX-License-Identifier: Apache-2.0
"""Text for messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["alternatives", "counted", "duration", "first_and_more", "first_few", "of_255"]

FEW = 5
SHORT = 120  # letters of a list that is told beside the name that was likely meant


def counted(count: int, noun: str) -> str:
    """A number of things: ``"1 case"``, ``"1,200 cases"``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def of_255(epsilon: float) -> str:
    """An epsilon in steps of an 8-bit image, as it is usually given: ``"8/255"``, ``"4.5/255"``."""
    return f"{255 * epsilon:.3g}/255"


def first_few(names: Iterable[str], count: int = FEW) -> str:
    """The first names, and dots where there are more: ``"a, b, ..."``."""
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")


def first_and_more(names: Sequence[str], count: int = 3) -> str:
    """The first names, and how many more there are: ``"a, b, c and 2 more"``."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def duration(seconds: float) -> str:
    """A time in the two units that tell it best."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def alternatives(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known ones, and the one that was likely meant.

    A long list is omitted where one was likely meant.

    Args:
        name: the unknown name.
        known: the names that there are.
    """
    names = list(known)
    listed, close = ", ".join(names), get_close_matches(str(name), names, 1)
    if not close:
        return f"; known are {listed}"
    meant = f"; did you mean {close[0]!r}?"
    return meant if len(listed) > SHORT else f"; known are {listed}{meant}"
