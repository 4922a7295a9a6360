# SPDX-License-Identifier: Apache-2.0
"""Descriptions of objects, so that a manifest can name them and a checkpoint can make them again.

Those of this package's own objects are enough for that. Those of torch's objects and of functions only tell two runs
apart."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from functools import partial, singledispatch
from types import BuiltinFunctionType, FunctionType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from monai_unlearnable.utils.config import Described

__all__ = ["describe", "public_name"]

SMALL = 256  # numbers in a buffer that is still a setting, such as the weights of classes in a loss


def describe(value: Any) -> Any:
    """The description of an object and of those inside it, JSON-ready; plain values describe themselves.

    Raises:
        TypeError: when it cannot be described.
    """
    if isinstance(value, Described):
        return {"_target_": public_name(type(value)), **describe(value.arguments())}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    return _of_library(value)


def public_name(kind: Any) -> str:
    """The dotted path of a class or function in the outermost package below the top that exports it.

    Descriptions name this path, so that they hold where a module moves inside its package.
    """
    name, parts = kind.__name__, kind.__module__.split(".")
    for end in range(min(2, len(parts)), len(parts)):
        package = ".".join(parts[:end])
        if getattr(sys.modules.get(package), name, None) is kind:
            return f"{package}.{name}"
    return f"{kind.__module__}.{kind.__qualname__}"


@singledispatch
def _of_library(value: Any) -> Any:
    """The description of a library's object, by its type."""
    raise TypeError(f"{type(value).__name__} cannot be described")


@_of_library.register
def _(value: nn.ModuleList) -> Any:
    return [describe(module) for module in value]


@_of_library.register
def _(value: nn.Module) -> Any:
    own = {name: _settings(module) for name, module in value.named_modules() if not _tells_all(module)}
    structure = re.sub(r" at 0x[0-9a-f]+", "", str(value))
    return {
        "_target_": public_name(type(value)),
        "settings": {name: settings for name, settings in own.items() if settings},
        "structure": structure,
    }


def _tells_all(module: nn.Module) -> bool:
    """Whether the text of a module holds all its settings, as with torch's layers without buffers."""
    return type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, nn.modules.loss._Loss)


def _settings(module: nn.Module) -> dict[str, Any]:
    """Plain public attributes, and small buffers of modules that learn nothing."""
    kept = {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
    if next(module.parameters(), None) is None:
        kept |= {name: buffer.tolist() for name, buffer in module.named_buffers() if buffer.numel() <= SMALL}
    return {name: describe(value) for name, value in sorted(kept.items()) if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


@_of_library.register
def _(value: Optimizer) -> Any:
    groups = [
        {
            **{name: describe(setting) for name, setting in sorted(group.items()) if _is_plain(setting)},
            "numbers": sum(parameter.numel() for parameter in group["params"]),
        }
        for group in value.param_groups
    ]
    return {"_target_": public_name(type(value)), "groups": groups}


@_of_library.register
def _(value: Dataset) -> Any:
    return {"length": len(value)}  # type: ignore[arg-type]


@_of_library.register
def _(value: DataLoader) -> Any:
    return {
        "_target_": public_name(type(value)),
        "dataset": describe(value.dataset),
        "batch_size": value.batch_size,
        "batches": len(value),
    }


@_of_library.register(FunctionType)
@_of_library.register(BuiltinFunctionType)
def _(value: Any) -> Any:
    return {"_target_": public_name(value)}


@_of_library.register
def _(value: partial) -> Any:
    return {"_target_": describe(value.func), "args": describe(value.args), "keywords": describe(value.keywords)}
