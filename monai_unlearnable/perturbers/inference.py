# SPDX-License-Identifier: Apache-2.0
"""A perturber run on whole images of any size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import LabelError, OutOfMemoryError
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.memory import is_out_of_memory, release_memory
from monai_unlearnable.perturbers.windows import Part, delta_in_windows

__all__ = ["generate_noise", "generate_noises"]

# Sites that are put through a perturber at once; larger images go through in overlapping windows.
WINDOW_SITES = 2**21
SHRINKING, SMALLEST_WINDOW = 8, 2**12  # of windows where memory runs out

logger = logging.getLogger(__name__)

Label = NDArray | int | None


def generate_noise(
    perturber: Perturber, image: NDArray, case_id: str, label: Label = None, window_sites: int = WINDOW_SITES
) -> NDArray:
    """The noise of one image; see :func:`generate_noises`."""
    return generate_noises(perturber, [image], [case_id], [label], window_sites)[0]


@torch.no_grad()
def generate_noises(
    perturber: Perturber,
    images: Sequence[NDArray],
    case_ids: Sequence[str],
    labels: Sequence[Label],
    window_sites: int = WINDOW_SITES,
) -> list[NDArray]:
    """The noise of images of equal shape in one pass, or in overlapping windows where they are large.

    Images with one class for the whole always go through as a whole: a window would be another image of that class.
    Images are padded evenly on both sides, as MONAI's ``SpatialPad`` does, so that noise keeps step with the strides
    of networks whose input is padded or cropped around its center. Work is bounded by the support of the noise.

    Where memory runs out, images go through one at a time, then in smaller and smaller windows, and a warning says so.
    Networks that see less of an image at once make other noise: it is then not what a machine with more memory makes.

    Args:
        perturber: in evaluation mode, on any device.
        images: unit intensity, each (C, spatial...).
        case_ids: passed on to the perturber.
        labels: class indices of sites, (1, spatial...), or the class of the whole image; needed by most methods.
        window_sites: largest number of sites of an image at once.

    Returns:
        Noise of each image in unit intensity, float32, of its shape; zero outside the support of the perturber.

    Raises:
        LabelError: naming the case, when the perturber needs a label and there is none.
        OutOfMemoryError: naming the case, when memory does not suffice for the smallest windows either.
    """
    for case_id, label in zip(case_ids, labels, strict=True):
        if perturber.needs_label and label is None:
            raise LabelError("the method needs a label, and the case has none", case=case_id)
    try:
        return _generate(perturber, images, case_ids, labels, window_sites)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
    # Here the failed attempt, with all that its frames held, is gone.
    release_memory()
    if len(images) > 1:
        logger.warning("%s and %d more: out of memory together; one at a time", case_ids[0], len(case_ids) - 1)
        return [generate_noise(perturber, *case, window_sites) for case in zip(images, case_ids, labels, strict=True)]
    smaller = min(window_sites, images[0][0].size) // SHRINKING
    if not _may_divide(perturber, labels) or smaller < SMALLEST_WINDOW:
        raise OutOfMemoryError(f"its noise takes more memory than there is: {reason}", case=case_ids[0])
    logger.warning("%s: out of memory; its noise is made in windows of %d sites", case_ids[0], smaller)
    return generate_noises(perturber, images, case_ids, labels, smaller)


def _generate(
    perturber: Perturber, images: Sequence[NDArray], case_ids: Sequence[str], labels: Sequence[Label], window_sites: int
) -> list[NDArray]:
    device = next((parameter.device for parameter in perturber.parameters()), torch.device("cpu"))
    batch, classes = torch.as_tensor(_stacked(images, np.float32)).to(device), _batched(labels, device)
    support = _support(perturber, batch, classes, case_ids)
    noise, allowed = torch.zeros_like(batch), np.any((support > 0).cpu().numpy(), axis=(0, 1))
    if allowed.any():
        part = Part.whole(batch.shape[2:], perturber.divisor)
        make = perturber.delta
        if _may_divide(perturber, labels) and part.sites > window_sites:
            part = Part.around(allowed, perturber.divisor)
            make = partial(delta_in_windows, perturber, window_sites)
        inside = part.take(classes) if classes is not None and classes.ndim > 1 else classes
        part.put(make(part.take(batch), case_ids, inside, part.take(support)), noise)
    return [part.cpu().numpy() for part in noise]


def _may_divide(perturber: Perturber, labels: Sequence[Label]) -> bool:
    """A window of an image that has one class for the whole would be another image of that class."""
    return perturber.windowed and all(label is None or isinstance(label, np.ndarray) for label in labels)


def _batched(labels: Sequence[Label], device: torch.device) -> Tensor | None:
    if any(label is None for label in labels):
        return None
    if isinstance(labels[0], np.ndarray):
        return torch.as_tensor(_stacked(labels, np.int64)).to(device)  # type: ignore[arg-type]
    return torch.tensor([int(label) for label in labels], device=device)  # type: ignore[arg-type]


def _stacked(arrays: Sequence[NDArray], dtype: type) -> NDArray:
    """Arrays of equal shape as one, and a single one without a copy where that is possible."""
    if len(arrays) > 1:
        return np.stack([np.asarray(array, dtype) for array in arrays])
    return np.require(arrays[0], dtype, "W")[None]


def _support(perturber: Perturber, images: Tensor, label: Tensor | None, case_ids: Sequence[str]) -> Tensor:
    """The support of a batch; errors name the case."""
    try:
        return perturber.support(images, label)[:, :1]
    except LabelError as error:
        if len(case_ids) > 1:
            for index, case_id in enumerate(case_ids):
                _support(perturber, images[[index]], None if label is None else label[[index]], [case_id])
        case = error.case or case_ids[0]
        raise LabelError(error.reason, case=case, value=error.value, limit=error.limit) from error
