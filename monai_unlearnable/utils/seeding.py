# SPDX-License-Identifier: Apache-2.0
"""Randomness that depends only on a seed; the global generators are never touched."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable
from torch import nn

from monai_unlearnable.utils.files import encoded

__all__ = ["Learned", "derive_seed", "is_secret", "isolated_seed", "reset_parameters", "seed_transforms", "seeded"]

TORCH_BITS = 64  # that torch takes for a seed; a larger one is an owner's secret


def derive_seed(*parts: Any) -> int:
    """A seed of any values, by SHA-256: independent streams for (seed, epoch), (seed, "surrogate"), ...

    It has 31 bits; if a part is a secret seed, the result is secret too and has 256 bits.
    """
    digest = hashlib.sha256(_text(parts)).digest()
    if is_secret(*parts):
        return 1 << 256 | int.from_bytes(digest, "big")
    return int.from_bytes(digest[:4], "big") >> 1


def seeded(*parts: Any) -> torch.Generator:
    """A generator of random numbers that depend on ``parts`` alone: of a single seed, or of values to derive one from.

    Its states are far fewer than secret seeds: torch uses 32 bits of any seed, and whoever has a pattern could try them
    all. So if a part is a secret seed, the whole state of the generator is derived from the parts.
    """
    generator = torch.Generator()
    if is_secret(*parts):
        _fill(generator.manual_seed(0), _text(parts))
        return generator
    return generator.manual_seed(parts[0] if len(parts) == 1 else derive_seed(*parts))


def seed_transforms(transform: Compose, seed: int) -> None:
    """Seed the random transforms of a pipeline; from a secret seed each one has 256 bits, where MONAI takes 32."""
    if not is_secret(seed):
        transform.set_random_state(seed)
        return
    for index, part in enumerate(transform.transforms):
        if isinstance(part, Randomizable):
            bits = np.random.SeedSequence(derive_seed(seed, index), pool_size=8)
            part.set_random_state(state=np.random.RandomState(np.random.MT19937(bits)))


def is_secret(*parts: Any) -> bool:
    """Whether an owner's secret seed is among the values."""
    return any(isinstance(part, int) and part.bit_length() > TORCH_BITS for part in parts)


def _text(parts: Sequence[Any]) -> bytes:
    return encoded("\0".join(str(part) for part in parts))


def _fill(generator: torch.Generator, secret: bytes) -> None:
    """Set the 624 words of a Mersenne twister that has not drawn yet; each has 32 bits and lies in 8 bytes."""
    state, words = generator.get_state(), 624
    drawn = struct.unpack(f"<{words}I", hashlib.shake_256(secret).digest(4 * words))
    state.numpy().view("uint64")[3 : 3 + words] = drawn
    generator.set_state(state)


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Run a block with torch's generators seeded, of the CPU and of GPUs in use, and put them back afterwards.

    A secret seed is the whole state of the CPU's generator; those of GPUs take 64 bits.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        if is_secret(seed):
            torch.manual_seed(derive_seed(seed, "GPU") % 2**TORCH_BITS)
            torch.set_rng_state(seeded(seed).get_state())
        else:
            torch.manual_seed(seed)
        yield


class Learned(nn.ModuleList):
    """Networks that were trained elsewhere: :func:`reset_parameters` does not change them."""


def reset_parameters(module: nn.Module, seed: int) -> nn.Module:
    """Draw the initial weights of a network from a seed, each layer by its own ``reset_parameters``.

    Tables that belong to no such layer, as the position embeddings of transformers, are drawn from a normal
    distribution with standard deviation 0.02, as MONAI does. Vectors and single numbers of that kind, such as scales,
    do not change. Nor do networks that are held as :class:`Learned`.

    Weights are drawn on the CPU, so that a seed gives the same network on every device.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    module.to("cpu")
    learned = {layer for part in module.modules() if isinstance(part, Learned) for layer in part.modules()}
    with isolated_seed(seed):
        loose: list[nn.Parameter] = []
        for layer in module.modules():
            if layer in learned:
                continue
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                loose += [parameter for parameter in layer.parameters(recurse=False) if parameter.ndim > 1]
        for table in loose:  # last, so that layers get the weights that they would get without
            nn.init.trunc_normal_(table, std=0.02)
    return module.to(device)
