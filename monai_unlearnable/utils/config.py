# SPDX-License-Identifier: Apache-2.0
"""Objects that keep how they were made, and objects made again from their description.

A description is MONAI's: ``{"_target_": "dotted.path", argument: value, ...}``, as
:func:`~monai_unlearnable.utils.descriptions.describe` makes it. Only some classes of this package are ever built from
one, because descriptions travel with files that others may have written."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from monai_unlearnable.errors import InputError

__all__ = ["Configurable", "Described", "build", "check_buildable"]

PACKAGE = __name__.partition(".")[0]

# Of checkpoints of version 0.1: classes that have another name now, and arguments with another name or value.
RENAMED = {
    "perturbers.FixedSites": "perturbers.FixedVoxels",
    "perturbers.SalientSites": "perturbers.SalientVoxels",
    "perturbers.SharedNoise": "perturbers.ClasswiseNoise",
    "perturbers.View": "perturbers.Augmentation",
}
RENAMED_ARGUMENTS = {
    "perturbers.Augmentation": {"chance": "prob", "mirror": "flip"},
    "perturbers.GradientNoise": {"view": "augmentation"},
    "perturbers.SalientVoxels": {"view": "augmentation"},
}
RENAMED_VALUES = {"masks.Sparsity": {"per": ("site", "voxel")}}


class Described:
    """Base of classes whose objects are described by the signature of their constructor.

    Attributes:
        undescribed: arguments that decide on nothing worth recording, such as a device.
        held_as: attributes that hold an argument under another name than its own.
    """

    undescribed: ClassVar[tuple[str, ...]] = ()
    held_as: ClassVar[Mapping[str, str]] = {}

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal object.

        Raises:
            TypeError: naming the argument that no attribute holds.
        """
        names = [name for name in inspect.signature(type(self)).parameters if name not in self.undescribed]
        held = {name: self.held_as.get(name, name) for name in names}
        for name, attribute in held.items():
            if not hasattr(self, attribute):
                kind = type(self).__name__
                raise TypeError(f"{kind} cannot be described: keep its argument '{name}' in an attribute '{attribute}'")
        return {name: getattr(self, attribute) for name, attribute in held.items()}


class Configurable(Described):
    """Base of classes that :func:`build` may make."""


def build(description: Any) -> Any:
    """Make the object of a description; those of earlier versions are understood.

    Raises:
        InputError: when it names anything but a :class:`Configurable` class of this package, or arguments do not fit.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    target = str(description.get("_target_", ""))
    name, kind = _find(target)
    renamed = RENAMED_ARGUMENTS.get(name, {})
    arguments = {
        renamed.get(str(key), str(key)): build(value) for key, value in description.items() if key != "_target_"
    }
    for argument, (old, new) in RENAMED_VALUES.get(name, {}).items():
        if arguments.get(argument) == old:
            arguments[argument] = new
    try:
        return kind(**arguments)
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"{target} cannot be built: {error}") from error


def check_buildable(description: Any) -> None:
    """Check that a description contains no class that :func:`build` refuses.

    Raises:
        InputError: when :func:`build` raises it.
    """
    if isinstance(description, dict):
        _find(str(description.get("_target_", "")))
    for item in description.values() if isinstance(description, dict) else description:
        if isinstance(item, (dict, list)):
            check_buildable(item)


def _find(target: str) -> tuple[str, type[Configurable]]:
    """A class by its path, and the name it has without that of this package.

    Only the package directly below the top is asked for it: classes of earlier versions, whose paths went deeper, are
    found there too, and no other module is ever imported.
    """
    package, _, path = target.partition(".")
    room, _, inner = path.partition(".")
    name = f"{room}.{inner.rpartition('.')[2]}"
    name = RENAMED.get(name, name)
    found = None
    if package == PACKAGE and all(part.isidentifier() for part in path.split(".")):
        try:
            found = getattr(import_module(f"{package}.{room}"), name.partition(".")[2], None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and issubclass(found, Configurable)):
        raise InputError(f"{target!r} is not a class of {PACKAGE} that a configuration may build")
    return name, found
