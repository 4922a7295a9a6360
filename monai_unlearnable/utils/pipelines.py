# SPDX-License-Identifier: Apache-2.0
"""Parts of MONAI pipelines: dictionary versions of array transforms, and the percentile window of exploiters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar

from monai.config import KeysCollection
from monai.transforms import ClipIntensityPercentilesd, MapTransform, ScaleIntensityd, Transform

__all__ = ["DictionaryTransform", "dictionary_transform", "percentile_window"]


class DictionaryTransform(MapTransform):
    """Base of dictionary transforms that put each entry through one array transform.

    Args:
        keys: entries to change.
        args: arguments of the array transform.
        allow_missing_keys: whether keys may be absent.
        options: arguments of the array transform, by name.
    """

    array_transform: ClassVar[Callable[..., Transform]]

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **options: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = type(self).array_transform(*args, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


def dictionary_transform(array_transform: type[Transform]) -> type[DictionaryTransform]:
    """The dictionary version ``Food`` of an array transform ``Foo``, with its arguments, its backends and what it says.

    It belongs into the module of the array transform, under its own name:

        Food = FooD = FooDict = dictionary_transform(Foo)

    Args:
        array_transform: transform that takes and returns the value of an entry.
    """
    kind = inspect.Parameter
    own = list(inspect.signature(array_transform).parameters.values())
    keys = kind("keys", kind.POSITIONAL_OR_KEYWORD, annotation=KeysCollection)
    missing = kind("allow_missing_keys", kind.KEYWORD_ONLY, default=False, annotation=bool)
    members = {
        "__doc__": _documentation(array_transform),
        "__module__": array_transform.__module__,
        "__signature__": inspect.Signature([keys, *own, missing]),
        "array_transform": array_transform,
        "backend": getattr(array_transform, "backend", []),
    }
    return type(f"{array_transform.__name__}d", (DictionaryTransform,), members)


def _documentation(array_transform: type[Transform]) -> str:
    summary, heading, rest = (inspect.getdoc(array_transform) or "").partition("Args:\n")
    entries = "    keys: entries to change.\n    allow_missing_keys: whether keys may be absent.\n"
    name = array_transform.__name__
    return f"Dictionary version of :class:`{name}`. {summary.rstrip()}\n\nArgs:\n{entries}{rest if heading else ''}"


def percentile_window(lower: float = 0.5, upper: float = 99.5) -> list[Any]:
    """Transforms of physical values to normalized intensity: each channel is clipped to percentiles of its own.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.
    """
    clip = ClipIntensityPercentilesd("image", lower, upper, channel_wise=True)
    return [*([clip] if (lower, upper) != (0, 100) else []), ScaleIntensityd("image", channel_wise=True)]
