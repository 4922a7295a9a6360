# SPDX-License-Identifier: Apache-2.0
"""Options of closed vocabularies, looked up by name."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import EnumMeta
from typing import Any

from monai.utils import look_up_option

from monai_unlearnable.errors import InputError

__all__ = ["look_up"]


def look_up(kind: str, name: Any, options: Collection[str] | EnumMeta) -> Any:
    """The option of a name, as MONAI's ``look_up_option`` finds it.

    Args:
        kind: what the options are of, for the error.
        name: an option, or its text.
        options: an enumeration of strings, a table, or names.

    Returns:
        The member of an enumeration, the value in a table, or the name.

    Raises:
        InputError: listing the options, when there is none of that name, with the one that was likely meant.
    """
    try:
        return look_up_option(name, options)
    except ValueError as error:
        meant = re.search(r"did you mean '(.*?)'\?", str(error))
        hint = f"; did you mean {meant.group(1)!r}?" if meant else ""
        raise InputError(f"unknown {kind} {name!r}; known are {', '.join(map(str, options))}{hint}") from None
