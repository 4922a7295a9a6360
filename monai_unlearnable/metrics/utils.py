# SPDX-License-Identifier: Apache-2.0
"""Shapes of arrays."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["without_channel"]

Array = TypeVar("Array", bound=Any)


def without_channel(array: Array, dims: int | None = None) -> Array:
    """The array (spatial...) of one given as (spatial...) or (1, spatial...).

    Args:
        array: numpy array or tensor.
        dims: number of spatial dimensions; where it is not known, a first axis of length 1 before two or more others is
            taken for the channel.
    """
    if array.ndim < 3 or array.shape[0] != 1 or array.ndim == dims:
        return array
    return array[0]  # type: ignore[no-any-return]
