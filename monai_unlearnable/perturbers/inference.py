# SPDX-License-Identifier: Apache-2.0
"""A perturber run on whole images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import LabelError
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.padding import even_sides, pad_to

__all__ = ["generate_noise", "generate_noises"]

# Sites that are put through a perturber at once; larger images go through in overlapping windows.
WINDOW_SITES = 2**21

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
    """
    for case_id, label in zip(case_ids, labels, strict=True):
        if perturber.needs_label and label is None:
            raise LabelError("the method needs a label, and the case has none", case=case_id)
    device = next((parameter.device for parameter in perturber.parameters()), torch.device("cpu"))
    batch, classes = torch.as_tensor(np.stack(images)).to(device), _batched(labels, device)
    support = _support(perturber, batch, classes, case_ids)
    divisor, shape = perturber.divisor, batch.shape[2:]
    padded, inside = pad_to(batch, classes, divisor)
    support, _ = pad_to(support, None, divisor)
    noise = torch.zeros_like(padded)
    if bool(support.any()):
        whole = not perturber.windowed or (classes is not None and classes.ndim == 1)
        large = not whole and padded[0, 0].numel() > window_sites
        box = (slice(None), slice(None), *(_bounding_box((support > 0).any(0)[0], divisor) if large else ()))
        inside = inside[box] if inside is not None and inside.ndim > 1 else inside
        make = partial(_in_windows, perturber, window_sites) if large else perturber.delta
        noise[box] = make(padded[box], case_ids, inside, support[box])
    starts = [even_sides(-extent % divisor)[0] for extent in shape]
    own = (slice(None), *(slice(start, start + extent) for start, extent in zip(starts, shape, strict=True)))
    return [part[own].cpu().numpy() for part in noise]


def _batched(labels: Sequence[Label], device: torch.device) -> Tensor | None:
    if any(label is None for label in labels):
        return None
    if isinstance(labels[0], np.ndarray):
        return torch.as_tensor(np.stack([np.asarray(label, np.int64) for label in labels])).to(device)
    return torch.tensor([int(label) for label in labels], device=device)  # type: ignore[arg-type]


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


def _bounding_box(support: Tensor, divisor: int) -> tuple[slice, ...]:
    """The box of the support with a margin of one ``divisor``, snapped to it."""
    box = []
    for axis, extent in enumerate(support.shape):
        others = [other for other in range(support.ndim) if other != axis]
        sites = torch.nonzero(support.amax(dim=others)).flatten()
        low = max(int(sites[0]) // divisor - 1, 0) * divisor
        box.append(slice(low, min((int(sites[-1]) // divisor + 2) * divisor, extent)))
    return tuple(box)


def _in_windows(
    perturber: Perturber,
    window_sites: int,
    images: Tensor,
    case_ids: Sequence[str],
    label: Tensor | None,
    support: Tensor,
) -> Tensor:
    shape, divisor, channels = images.shape[2:], perturber.divisor, images.shape[1]
    # Half a window of overlap then keeps the origins on multiples of the divisor, so that windows agree in phase.
    side = round(window_sites ** (1 / len(shape))) // (2 * divisor) * 2 * divisor
    size = [min(max(side, 2 * divisor), extent) for extent in shape]

    def one(image: Tensor, case_id: str, own: Tensor | None, allowed: Tensor) -> Tensor:
        def delta(window: Tensor) -> Tensor:
            classes = None if own is None else window[:, channels + 1 :].long()
            return perturber.delta(window[:, :channels], [case_id], classes, window[:, channels : channels + 1])

        stacked = torch.cat([image, allowed, *([] if own is None else [own.to(image.dtype)])], dim=1)
        return sliding_window_inference(stacked, size, 1, delta, overlap=0.5, mode="gaussian")  # type: ignore[return-value]

    parts = [None] * len(images) if label is None else label.split(1)
    return torch.cat([one(*part) for part in zip(images.split(1), case_ids, parts, support.split(1), strict=True)])
