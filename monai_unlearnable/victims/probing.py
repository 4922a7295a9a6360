# SPDX-License-Identifier: Apache-2.0
"""Networks from a catalog, tried on an input of their size before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from monai.utils import OptionalImportError
from torch import nn

from monai_unlearnable.catalog import Catalog
from monai_unlearnable.errors import InputError
from monai_unlearnable.seeding import isolated_seed, reset_parameters

__all__ = ["checked_network", "fresh_network"]

MULTIPLES = (8, 16, 32, 64)


def checked_network(catalog: Catalog, name: str, **values: Any) -> nn.Module:
    """Build a network and make sure that it can be trained on images of its size.

    Args:
        catalog: of networks.
        name: of the entry.
        values: what the entry may refer to; ``channels`` and ``size`` among them.

    Raises:
        InputError: when the network cannot be built or cannot take such images, with a size that it would take; when
            a package that it needs is not installed.
    """
    size = [int(sites) for sites in values["size"]]
    catalog.description(name)  # an unknown name is no matter of size
    failure: Exception | None
    try:
        network: nn.Module = catalog.build(name, **values)
        failure = _failure(network, values["channels"], size)
        if failure is None:
            return network
    except InputError as error:
        if _is_missing_package(error):
            reason = f"{name} needs a package that is missing; pip install 'monai_unlearnable[lab]'"
            raise InputError(reason) from error
        failure = error
    for multiple in MULTIPLES:
        larger = [-(-sites // multiple) * multiple for sites in size]
        if larger != size and _works(catalog, name, {**values, "size": larger}):
            advice = f"{_text(larger)} would do (multiples of {multiple})"
            raise InputError(f"{name} cannot take images of {_text(size)}; {advice}") from failure
    raise InputError(f"{name} cannot be used with images of {_text(size)}: {failure}") from failure


def fresh_network(catalog: Catalog, name: str, seed: int, **values: Any) -> nn.Module:
    """A :func:`checked_network` whose weights are drawn from a seed.

    Args:
        catalog: of networks.
        name: of the entry.
        seed: of the weights.
        values: what the entry may refer to.

    Raises:
        InputError: as :func:`checked_network`.
    """
    with isolated_seed(seed):
        network = checked_network(catalog, name, **values)
    return reset_parameters(network, seed)


def _works(catalog: Catalog, name: str, values: dict[str, Any]) -> bool:
    try:
        return _failure(catalog.build(name, **values), values["channels"], values["size"]) is None
    except InputError:
        return False


def _failure(network: nn.Module, channels: int, size: Sequence[int]) -> Exception | None:
    """What goes wrong in a forward pass in training mode, first of shapes alone, which takes no time or memory."""
    failure: Exception | None = None
    for device in ("meta", "cpu"):  # on the CPU only where "meta" failed, which not every layer knows
        probe = copy.deepcopy(network).to(device).train()
        try:
            with torch.no_grad():
                probe(torch.zeros(2, channels, *size, device=device))
            return None
        except Exception as error:  # whatever a network raises
            failure = error
    return failure


def _is_missing_package(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (OptionalImportError, ModuleNotFoundError)):
            return True
        error = error.__cause__
    return False


def _text(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
