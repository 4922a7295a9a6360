# SPDX-License-Identifier: Apache-2.0
"""The base of all methods of making noise.

It also rounds noise to what the file will hold, while the noise is being optimized."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from monai_unlearnable.budget import STEP_TOLERANCE, Budget
from monai_unlearnable.crypto.encrypted import Key, read_owned, write_owned
from monai_unlearnable.data.grids import Crop, Grid
from monai_unlearnable.errors import InputError, KeyMismatchError, LabelError, told
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.masks import MaskProvider
from monai_unlearnable.suited import not_for_classes, not_for_maps, not_for_tasks
from monai_unlearnable.utils.config import Configurable, build, check_buildable
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.files import fingerprint
from monai_unlearnable.utils.seeding import Learned


class Perturber(nn.Module, Configurable, ABC):
    """Makes noise for images. It does no I/O; the budget is enforced where noise meets the image, not here.

    Attributes:
        allowed: mask that says where noise is allowed.
        epsilon: largest change of a voxel, normalized intensity.
        divisor: number that spatial sizes for :meth:`delta` must be multiples of.
        batch_size: number of images of equal shape that are given at once when a whole dataset is protected.
        draws_mark: whether its noise is drawn from its seed alone, alike for every seed, so that it is a mark.
        uses_grid: whether noise depends on where the voxels of an image lie, see :meth:`for_grid`.
        crop: what of an image the exploiter is expected to cut off, so that its grid must tell the box that is left;
            one of :class:`~monai_unlearnable.data.grids.Crop`.
        takes_maps: whether labels may be maps; else they are classes of whole images.
        takes_tasks: whether images may have several labels, one a task.
        windowed: whether large images may go through :meth:`delta` in overlapping windows; else they go as a whole.
    """

    allowed: MaskProvider
    epsilon: float
    divisor: int = 1
    batch_size: int = 1
    draws_mark: bool = False
    uses_grid: bool = False
    crop: str = Crop.NONE
    takes_maps: bool = True
    takes_tasks: bool = False
    windowed: bool = True
    held_as = {"support": "allowed"}

    def _depend_on(self, *masks: MaskProvider | None) -> None:
        """Adopt the networks of masks: checkpoints hold their weights, training leaves them alone."""
        self.mask_networks = Learned(net for mask in masks if mask is not None for net in mask.networks())

    @abstractmethod
    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        """The noise of a batch.

        Args:
            image: normalized intensity, (B, C, spatial...).
            case_ids: names of the cases, one per batch element.
            label: class indices of voxels, (B, 1, spatial...), or of whole images, (B,), or of each of their tasks,
                (B, tasks), see :attr:`takes_tasks`.
            support: result of :meth:`support` for the whole image that this is padded or cut from; None if this is
                the whole image.

        Returns:
            Noise in normalized intensity, same shape as ``image``; differentiable with respect to :meth:`parameters`
            where an optimizer trains these.
        """

    @property
    def needs_label(self) -> bool:
        """Whether :meth:`delta` must be given a label."""
        return self.allowed.needs_label

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Where :meth:`delta` can be nonzero, in [0, 1], (B, 1, spatial...)."""
        return self.allowed(image, label)

    def for_grid(self, grid: Grid) -> Perturber:
        """The same perturber, for images whose voxels lie on a grid; itself, unless it uses that."""
        return self

    def decided(self) -> dict[str, Any]:
        """What was drawn or chosen for it and its description does not tell, JSON-ready: for the owner's eyes alone."""
        return {}

    def mark_digest(self) -> str:
        """SHA-256 of its description with its seed, which commits an owner to a mark and tells nothing about it."""
        return fingerprint(describe(self))

    def with_seed(self, seed: int, epsilon: float | None = None) -> Perturber:
        """The same method with the mark of another seed.

        Args:
            seed: seed that the mark is drawn from.
            epsilon: largest change of a voxel; by default its own.

        Raises:
            InputError: when its noise is no mark, see :attr:`draws_mark`.
        """
        if not self.draws_mark:
            raise InputError(f"the noise of {type(self).__name__} is no mark: it is not drawn from a seed alone")
        changed = {"seed": seed, "epsilon": self.epsilon if epsilon is None else float(epsilon)}
        other: Perturber = build({**describe(self), **changed})
        return other.eval()

    @property
    def image_channels(self) -> int | None:
        """Channels of the images that it was made for; None where it takes any number."""
        return getattr(next(iter(getattr(self, "networks", ())), self), "in_channels", None)

    @property
    def budget(self) -> Budget:
        """The budget that the noise keeps to: its epsilon and, if it selects voxels, their fraction."""
        sparsity = getattr(self, "sparsity", None)
        return Budget(self.epsilon, fraction=1.0 if sparsity is None else sparsity.fraction)

    def check_tasks(self, tasks: Sequence[str], method: str | None = None) -> None:
        """Refuse tasks that it cannot protect.

        Args:
            tasks: names of the tasks, in sorted order; none where images have one label.
            method: name of the method, for the error; by default that of the class.

        Raises:
            InputError: when images have several labels, and the method protects one.
        """
        if tasks and not self.takes_tasks:
            raise not_for_tasks(method or type(self).__name__, tasks)

    def check_labels(self, of_images: bool, method: str | None = None) -> None:
        """Refuse labels of a kind that it cannot follow.

        Args:
            of_images: whether labels are classes of whole images, rather than maps.
            method: name of the method, for the error; by default that of the class.

        Raises:
            LabelError: when it needs label maps, or classes of whole images, and labels are the other ones.
        """
        method = method or type(self).__name__
        if not (of_images or self.takes_maps):
            raise not_for_maps(method)
        masks = [value for value in vars(self).values() if isinstance(value, MaskProvider)]
        if of_images and any(mask.needs_maps for mask in masks):
            raise not_for_classes(method)

    def rescale(self, trained: float) -> None:
        """Scale what was learned as noise itself from the epsilon ``trained`` to its own."""


def check_classes(label: Tensor, num_classes: int) -> None:
    """Refuse classes that a perturber does not know.

    Raises:
        LabelError: when a class index is not below ``num_classes``.
    """
    highest = int(label.amax()) if label.numel() else 0  # max() copies volumes in the order of their files
    if highest >= num_classes:
        raise LabelError("the class is not known to the method", value=highest, limit=num_classes - 1)


def check_image_classes(label: Tensor, num_classes: int) -> None:
    """Refuse label maps, and classes of whole images that a perturber does not know.

    Raises:
        LabelError: when it is a label map, or a class index is not below ``num_classes``.
    """
    if label.ndim != 1:
        raise not_for_maps("the method")
    check_classes(label, num_classes)


@dataclass(frozen=True)
class InputSettings(Configurable):
    """The settings that cases are read with: those of the training, which further cases need too.

    Args:
        window: rule for the intensity windows.
        label_values: stored label value of each class, background first; None where labels are taken as stored.
        fraction: largest fraction of the voxels of a scan that may change; 1 in checkpoints of earlier releases.
        class_names: names of the classes of each label of whole images, see :class:`~monai_unlearnable.data.Case`;
            empty where they are not known, as in checkpoints of earlier releases.
    """

    window: WindowRule
    label_values: Sequence[int] | None = None
    fraction: float = 1.0
    class_names: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(tuple, self.class_names)))  # files hold lists

    def arguments(self) -> dict[str, Any]:
        """The arguments; without names of classes those of earlier releases, so that equal runs have equal bytes."""
        found = super().arguments()
        return found if self.class_names else {name: value for name, value in found.items() if name != "class_names"}


def encode_perturber(perturber: Perturber, settings: InputSettings | None = None) -> bytes:
    """Weights and descriptions as the bytes of a safetensors file; the same perturber gives the same bytes.

    Raises:
        InputError: when a part of it could not be rebuilt from its description.
    """
    # Copies: some networks hold a weight under two names, which safetensors refuses.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in perturber.state_dict().items()}
    description = {"perturber": describe(perturber), "input": describe(settings)}
    check_buildable(description["perturber"])
    # One entry: safetensors writes several in any order.
    return safetensors.torch.save(state, {"description": json.dumps(description, sort_keys=True)})


def save_perturber(
    perturber: Perturber, path: str | Path, settings: InputSettings | None = None, key: Key | None = None
) -> None:
    """Write weights and descriptions to one safetensors file; atomic.

    Args:
        perturber: the perturber to save.
        path: file to write.
        settings: settings that cases are read with, for :func:`load_input_settings`.
        key: the owner's key, to encrypt the file.
    """
    write_owned(path, encode_perturber(perturber, settings), key)


def load_perturber(
    path: str | Path, device: str | torch.device = "cpu", key: Key | None = None, epsilon: float | None = None
) -> Perturber:
    """Load a perturber from a file of :func:`save_perturber`; nothing in the file is executed.

    Args:
        path: path of the file.
        device: device to load to.
        key: the owner's key, where the file is encrypted.
        epsilon: largest change of a voxel, in place of the one of the training (epsilon generalization, after
            UnSeg). Generators and patterns scale their noise; gradient noise gets the larger ball to descend in.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        InputError: naming the file, when it is not a perturber checkpoint; when ``epsilon`` is invalid, or the noise
            cannot be scaled to it.
    """
    if not isinstance(epsilon, (int, float, type(None))):
        raise InputError(f"epsilon is {epsilon!r}, which is not a number")
    changed = {} if epsilon is None else {"epsilon": float(epsilon)}
    with _opened(path, key) as (content, description):
        perturber = build({**description["perturber"], **changed})
        if not isinstance(perturber, Perturber):
            raise InputError(f"describes a {type(perturber).__name__}, not a perturber")
        perturber.load_state_dict(safetensors.torch.load(content))
        trained = description["perturber"].get("epsilon")
    if epsilon is not None:
        perturber.rescale(trained)
    return perturber.to(device).eval()


def load_input_settings(
    path: str | Path, key: Key | None = None, default: InputSettings | None = None
) -> InputSettings:
    """The settings that cases are read with for the perturber in a file of :func:`save_perturber`.

    Args:
        path: file of the checkpoint.
        key: the owner's key, where the file is encrypted.
        default: settings in place of those that a checkpoint lacks.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        InputError: naming the file, when it is not a perturber checkpoint, or was saved without these settings.
    """
    with _opened(path, key) as (_, description):
        settings = build(description["input"])
    if settings is None and default is not None:
        return default
    if not isinstance(settings, InputSettings):
        raise InputError("holds no window and label values; give both as settings", file=path)
    return settings


def load_mark_digest(path: str | Path, key: Key | None = None) -> str:
    """The :meth:`Perturber.mark_digest` of the perturber in a file of :func:`save_perturber`, as it was when written.

    A later release may know more settings, and would describe the same mark in another way.

    Raises:
        KeyMismatchError: naming the file, when it takes another key, or none.
        InputError: naming the file, when it is not a perturber checkpoint.
    """
    with _opened(path, key) as (_, description):
        return fingerprint(description["perturber"])


@contextmanager
def _opened(path: str | Path, key: Key | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """A checkpoint and its descriptions; errors inside become an :class:`InputError` that names the file."""
    try:
        content = read_owned(path, key)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        yield content, json.loads(header["__metadata__"]["description"])
    except KeyMismatchError:
        raise
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"is not a perturber checkpoint: {told(error)}", file=path) from error


def round_to_quantization(noise: Tensor, step: Tensor) -> Tensor:
    """Truncate noise toward zero to whole storage steps; gradients pass straight through.

    Args:
        noise: normalized intensity, (B, C, spatial...).
        step: normalized intensity of one storage step, (B, C); 0 for floating-point storage, whose noise stays as
            is.
    """
    size = step.to(noise).reshape(*step.shape, *[1] * (noise.ndim - 2))
    steps = noise / size.clamp(min=1e-12)
    whole = torch.trunc(steps + STEP_TOLERANCE * torch.sign(noise)) * size
    return noise + (torch.where(size > 0, whole, noise) - noise).detach()
