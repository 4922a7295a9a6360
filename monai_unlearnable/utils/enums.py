# SPDX-License-Identifier: Apache-2.0
"""Names: keys of the dictionaries that pass between transforms and engines, and options of closed vocabularies."""

from __future__ import annotations

from collections.abc import Collection
from enum import EnumMeta
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.text import alternatives

__all__ = ["CaseKeys", "MetaKeys", "look_up"]


class CaseKeys:
    """Keys of a case, the dictionary that flows through MONAI pipelines."""

    IMAGE = "image"
    LABEL = "label"
    CASE_ID = "case_id"
    STEP = "step"


class MetaKeys:
    """Entries that this package adds to ``MetaTensor.meta``."""

    PROTECTION = "protection"
    QUANTIZATION = "quantization"


def look_up(kind: str, name: Any, options: Collection[str] | EnumMeta) -> Any:
    """The option of a name, as MONAI's ``look_up_option`` finds it.

    Args:
        kind: kind of thing that the options are for, named in the error.
        name: an option, or its text.
        options: an enumeration of strings, a table, or names.

    Returns:
        The member of an enumeration, the value in a table, or the name.

    Raises:
        InputError: listing the options, when there is none of that name, with the one that was likely meant.
    """
    from monai.utils import look_up_option  # takes seconds to import, and keys are needed where MONAI is not

    try:
        return look_up_option(name, options)
    except ValueError:
        raise InputError(f"unknown {kind} {name!r}{alternatives(name, map(str, options))}") from None
