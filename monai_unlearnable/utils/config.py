# SPDX-License-Identifier: Apache-2.0
"""Objects that can tell how they were made, so that a checkpoint can make them again.

A description is MONAI's: ``{"_target_": "dotted.path", argument: value, ...}``. Only classes of this package are ever
built from one, because descriptions travel with files that others may have written."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

from monai_unlearnable.errors import InputError

__all__ = ["Configurable", "describe", "build"]

PACKAGE = __name__.partition(".")[0]


class Configurable:
    """Base of classes that :func:`build` may make; those that are no dataclass override :meth:`arguments`."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal object."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def describe(value: Any) -> Any:
    """The description of an object and of those inside it; numbers, strings, lists and None describe themselves."""
    if isinstance(value, Configurable):
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"_target_": target, **{name: describe(item) for name, item in value.arguments().items()}}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be described")


def build(description: Any) -> Any:
    """Make the object of a description.

    Raises:
        InputError: when it names anything but a :class:`Configurable` class of this package, or arguments do not fit.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    target = str(description.get("_target_", ""))
    module, _, name = target.rpartition(".")
    found = None
    if module.split(".")[0] == PACKAGE:
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and issubclass(found, Configurable)):
        raise InputError(f"{target!r} is no class of {PACKAGE} that a configuration may build")
    arguments = {key: build(value) for key, value in description.items() if key != "_target_"}
    try:
        return found(**arguments)
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"{target} cannot be built: {error}") from error
