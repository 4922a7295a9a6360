# SPDX-License-Identifier: Apache-2.0
"""Settings of a bundle as users give them, checked against those that its configuration has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.values import check_number, check_path, check_switch, check_whole, check_wholes

__all__ = ["check_settings"]

# Earlier, longer names of bundle settings, for those who still use them.
RENAMED = {
    "amp": "train#trainer#amp",
    "budget": "protection",
    "cache_gib": "protection#cache_gib",
    "curves": "protection#curves",
    "quarantine": "skip_invalid",
    "resume": "protection#resume",
    "spared": "unperturbed",
    "surrogate_interval": "train#trainer#strategy#surrogate_interval",
    "surrogate_lifetime": "surrogates#lifetime",
    "surrogate_warmup": "surrogates#warmup",
    "tile": "pattern_size",
    "view": "augmentation",
}
COUNTS = ("epochs", "epoch_length", "batch_size", "iterations", "steps", "samples")  # settings of 1 or more
NUMBERS = ("epsilon", "learning_rate", "step_size", "pattern_rate")  # which may be expressions in a configuration
QUOTIENT = re.compile(r"\$\s*[\d.]+\s*/\s*[\d.]+")
LEVELS = re.compile("#|::")  # between the names of nested settings


def check_settings(settings: Mapping[str, Any], known: Mapping[str, Any], file: Path) -> None:
    """Check that a configuration has the settings, and that they are of the kind of its own values.

    Args:
        settings: settings by name; ``a#b`` is nested.
        known: content of the configuration.
        file: file of the configuration, named in errors.

    Raises:
        InputError: naming the first setting that is unknown or of another kind.
    """
    for name, value in settings.items():
        group = LEVELS.split(name)[0]
        if group not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            hint = f"; {group!r} is called {RENAMED[group]!r} now" if group in RENAMED else hint
            raise InputError(f"the configuration has no setting {name!r}{hint}", file=file)
        if not str(value).startswith(("$", "@")):  # what the configuration is to evaluate
            _check_kind(name, value, _found(known, LEVELS.split(name)))


def _found(known: Any, names: list[str]) -> Any:
    """The value of a nested setting; None where the configuration has none."""
    for name in names:
        known = known.get(name) if isinstance(known, Mapping) else None
    return known


def _check_kind(name: str, value: Any, own: Any) -> None:
    if isinstance(own, bool):
        check_switch(name, value)
    elif name in COUNTS:
        check_whole(name, value, 1)
    elif name == "seed":
        check_whole(name, value)
    elif name == "patch_size":
        check_wholes(name, value, 1)
    elif name in ("datalist", "dataset_dir", "output_dir", "checkpoint"):
        check_path(name, value)
    elif name == "window":
        if value is not None and not isinstance(value, Mapping):
            raise InputError(f"window is {value!r}, not a group such as {{_target_: NAME}}")
    elif isinstance(own, (int, float)) or QUOTIENT.fullmatch(str(own)) or (name in NUMBERS and value is not None):
        check_number(name, value)
