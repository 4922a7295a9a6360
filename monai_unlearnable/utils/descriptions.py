# SPDX-License-Identifier: Apache-2.0
"""Descriptions of torch's own objects: enough to tell two runs apart, not to make the objects again."""

from __future__ import annotations

import functools
import re
from types import BuiltinFunctionType, FunctionType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from monai_unlearnable.utils.config import describe, describe_other, public_name

__all__ = ["describe"]

SMALL = 256  # numbers in a buffer that is still a setting, such as the weights of classes in a loss


@describe_other.register
def _(value: nn.ModuleList) -> Any:
    return [describe(module) for module in value]


@describe_other.register
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


@describe_other.register
def _(value: Optimizer) -> Any:
    groups = [
        {
            **{name: describe(setting) for name, setting in sorted(group.items()) if _is_plain(setting)},
            "numbers": sum(parameter.numel() for parameter in group["params"]),
        }
        for group in value.param_groups
    ]
    return {"_target_": public_name(type(value)), "groups": groups}


@describe_other.register
def _(value: Dataset) -> Any:
    return {"length": len(value)}  # type: ignore[arg-type]


@describe_other.register
def _(value: DataLoader) -> Any:
    return {
        "_target_": public_name(type(value)),
        "dataset": describe(value.dataset),
        "batch_size": value.batch_size,
        "batches": len(value),
    }


@describe_other.register(FunctionType)
@describe_other.register(BuiltinFunctionType)
def _(value: Any) -> Any:
    return {"_target_": public_name(value)}


@describe_other.register
def _(value: functools.partial) -> Any:
    return {"_target_": describe(value.func), "args": describe(value.args), "keywords": describe(value.keywords)}
