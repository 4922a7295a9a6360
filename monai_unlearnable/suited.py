# SPDX-License-Identifier: Apache-2.0
"""The methods that suit each kind of labels, which errors name where another method was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from monai_unlearnable.errors import InputError, LabelError

__all__ = ["FOR_CLASSES", "FOR_MAPS", "FOR_TASKS", "not_for_classes", "not_for_maps", "not_for_tasks"]

# The usual ones come first, in the order in which they are tried.
FOR_MAPS = ("carrier", "umed", "lattice", "voxshield", "foresight")
FOR_CLASSES = ("carrier", "lsp", "lattice", "linear", "error_minimizing_class")
FOR_TASKS = ("lsp", "multitask", "ar", "cuda", "ops")


def not_for_maps(method: str) -> LabelError:
    """The error of a method that needs classes of whole images, for cases with label maps.

    Args:
        method: name of the method.
    """
    found = f"{method} needs one class for each whole image, and these cases have label maps"
    return LabelError(found + _others(FOR_MAPS))


def not_for_classes(method: str) -> LabelError:
    """The error of a method that needs label maps, for cases with one class for each whole image.

    Args:
        method: name of the method.
    """
    found = f"{method} needs a class for each voxel, and these cases have one for each image"
    return LabelError(found + _others(FOR_CLASSES))


def not_for_tasks(method: str, tasks: Sequence[str]) -> InputError:
    """The error of a method that protects one label an image, for cases with several.

    Args:
        method: name of the method.
        tasks: names of the labels.
    """
    found = f"{method} protects one label an image, and here are {len(tasks)} ({', '.join(tasks)})"
    return InputError(found + _others(FOR_TASKS))


def _others(methods: Sequence[str]) -> str:
    return f"; methods for them are {', '.join(methods)}"
