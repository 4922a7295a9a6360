# SPDX-License-Identifier: Apache-2.0
"""Checks of settings that users give: each error names the setting, what it is, and what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError

__all__ = ["PATHS", "as_plain", "check_at_least", "check_number", "check_path", "check_positive", "check_switch"]
__all__ += ["check_whole", "check_wholes"]

# Settings that name a file or folder, in all commands and bundles.
PATHS: tuple[str, ...] = ("bundle_root", "dataset_dir", "output_dir", "datalist", "checkpoint", "key", "test_dir")
PATHS += ("weights", "other_dir", "other_protected_dir", "catalog", "report_dir")
REWRITTEN = ("$", "%", "@")  # first signs of what MONAI's configuration parser evaluates


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, Integral)


def check_whole(name: str, value: Any, least: int | None = None) -> None:
    """Check that a setting is a whole number, and not below ``least``.

    Raises:
        InputError: naming the setting, when it is not.
    """
    if not _is_whole(value):
        raise InputError(f"{name} is {value!r}, not a whole number")
    if least is not None and value < least:
        reason = f"{name} is {value}; give {least} or more"
        raise InputError(reason, value=value, limit=least)


def check_wholes(name: str, values: Any, least: int | None = None) -> None:
    """Check that a setting is a list of whole numbers, and that there is one.

    Raises:
        InputError: naming the setting, when it is not.
    """
    listed = values if isinstance(values, Iterable) and not isinstance(values, (str, dict)) else ()
    numbers = tuple(listed)
    if not numbers or not all(map(_is_whole, numbers)):
        raise InputError(f"{name} is {list(numbers) or values!r}, not a list of whole numbers")
    for number in numbers:
        check_whole(f"a number in {name}", number, least)


def check_number(name: str, value: Any) -> None:
    """Check that a setting is a finite number.

    Raises:
        InputError: naming the setting, when it is not.
    """
    if not _is_number(value) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}, not a number")


def check_at_least(limit: float, **values: Any) -> None:
    """Check that settings by name, each a number or a sequence of numbers, are finite and not below ``limit``.

    Raises:
        InputError: naming the argument, when a number is below ``limit`` or not finite.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, Iterable) else (value,)
        if not all(_is_number(number) and math.isfinite(number) and number >= limit for number in numbers):
            raise InputError(f"{name} must be at least {limit:g}, not {value}", value=value, limit=limit)


def check_positive(**numbers: float | None) -> None:
    """Check that settings by name are positive and finite, or None for their default.

    Raises:
        InputError: naming the setting, when one is not.
    """
    for name, number in numbers.items():
        if number is not None and not (number > 0 and math.isfinite(number)):
            raise InputError(f"{name} is {number}; it must be positive", value=number, limit=0)


def check_switch(name: str, value: Any) -> None:
    """Check that a setting is True or False.

    Raises:
        InputError: naming the setting, when it is not.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} is True or False, not {value!r}")


def as_plain(path: str | Path) -> str | Path:
    """A path in the form that MONAI's configuration parser leaves alone.

    In text it replaces each ``#``, and evaluates what begins with ``$``, ``%`` or ``@``.
    """
    name = str(path)
    return Path(name) if "#" in name or name.startswith(REWRITTEN) else name


def check_path(name: str, value: Any) -> None:
    """Check that a setting names a file or folder, or is None.

    Raises:
        InputError: naming the setting, when it does not.
    """
    if value is not None and (value == "" or not isinstance(value, (str, Path))):
        # Dictionaries on the command line hold 2024 and 3/4 as numbers.
        hint = "; one that reads as a number is given as ./NAME" if _is_number(value) else ""
        raise InputError(f"{name} is {value!r}, not the name of a file or folder{hint}")
