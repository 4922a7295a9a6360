# SPDX-License-Identifier: Apache-2.0
"""What every method of making noise has in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from monai_unlearnable.config import Configurable, build, describe
from monai_unlearnable.errors import InputError
from monai_unlearnable.scans.atomic import write_atomic

__all__ = ["Perturber", "encode_perturber", "save_perturber", "load_perturber"]


class Perturber(nn.Module, Configurable, ABC):
    """Makes noise for images. Does no I/O; the budget is enforced where noise meets the image, not here.

    Attributes:
        divisor: spatial sizes that :meth:`delta` takes are multiples of this.
        needs_label: whether :meth:`delta` must be given a label.
    """

    divisor: int = 1
    needs_label: bool = False

    @abstractmethod
    def delta(self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None) -> Tensor:
        """The noise of a batch.

        Args:
            image: unit intensity, (B, C, spatial...).
            case_ids: one per batch element.
            label: class indices, (B, 1, spatial...).

        Returns:
            Noise in unit intensity, same shape as ``image``, differentiable with respect to :meth:`parameters`.
        """

    @abstractmethod
    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Where :meth:`delta` can be nonzero, in [0, 1], (B, 1, spatial...)."""


def encode_perturber(perturber: Perturber) -> bytes:
    """Weights and description as the bytes of a safetensors file; the same perturber gives the same bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in perturber.state_dict().items()}
    metadata = {"perturber": json.dumps(describe(perturber), sort_keys=True)}
    return safetensors.torch.save(state, metadata)


def save_perturber(perturber: Perturber, path: str | Path) -> None:
    """Write weights and description to one safetensors file; atomic."""
    write_atomic(Path(path), encode_perturber(perturber))


def load_perturber(path: str | Path, device: str | torch.device = "cpu") -> Perturber:
    """Make a perturber from a file of :func:`save_perturber`; nothing in the file is executed.

    Raises:
        InputError: naming the file, when it is no perturber checkpoint.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as stream:
            description = json.loads((stream.metadata() or {})["perturber"])
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
        perturber = build(description)
        if not isinstance(perturber, Perturber):
            raise InputError(f"describes a {type(perturber).__name__}, not a perturber")
        perturber.load_state_dict(state)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"is no perturber checkpoint: {error}", file=path) from error
    return perturber.to(device).eval()
