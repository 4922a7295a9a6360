# SPDX-License-Identifier: Apache-2.0
"""A perturber run on whole images of any size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import LabelError
from monai_unlearnable.perturbers.base import Perturber

__all__ = ["generate_noise"]

# Sites that are put through a perturber at once; larger images go through in overlapping windows.
WINDOW_SITES = 2**21


@torch.no_grad()
def generate_noise(
    perturber: Perturber, image: NDArray, case_id: str, label: NDArray | None = None, window_sites: int = WINDOW_SITES
) -> NDArray:
    """The noise of one image in one pass, or in overlapping windows where the image is large.

    The image is padded evenly on both sides, as MONAI's ``SpatialPad`` does, so that noise keeps step with the strides
    of networks whose input is padded or cropped around its center. Work is bounded by the support of the noise.

    Args:
        perturber: in evaluation mode, on any device.
        image: unit intensity, (C, spatial...).
        case_id: passed on to the perturber.
        label: class indices, (1, spatial...); needed by most methods.
        window_sites: largest number of sites at once.

    Returns:
        Noise in unit intensity, float32, the shape of ``image``; zero outside the support of the perturber.

    Raises:
        LabelError: naming the case, when the perturber needs a label and there is none.
    """
    if perturber.needs_label and label is None:
        raise LabelError("the method needs a label, and the case has none", case=case_id)
    device = next((parameter.device for parameter in perturber.parameters()), torch.device("cpu"))
    divisor = perturber.divisor
    pads = [(-extent) % divisor for extent in image.shape[1:]]
    padding = [side for pad in reversed(pads) for side in (pad // 2, pad - pad // 2)]
    batch = F.pad(torch.as_tensor(np.ascontiguousarray(image))[None].to(device), padding)
    classes = None if label is None else F.pad(torch.as_tensor(label.astype(np.int64))[None].to(device), padding)
    support = perturber.support(batch, classes)[0, 0] > 0
    if not bool(support.any()):
        return np.zeros(image.shape, np.float32)
    noise = torch.zeros_like(batch)
    box = (slice(None), slice(None), *_bounding_box(support, divisor, batch.numel() // len(batch[0]) > window_sites))
    noise[box] = _windows(perturber, batch[box], None if classes is None else classes[box], case_id, window_sites)
    noise *= support  # a window sees less of the label than the image does
    sizes = zip(pads, image.shape[1:], strict=True)
    inside = (slice(None), *(slice(pad // 2, pad // 2 + extent) for pad, extent in sizes))
    return noise[0][inside].cpu().numpy()


def _bounding_box(support: Tensor, divisor: int, tight: bool) -> tuple[slice, ...]:
    """The box of the support with a margin of one ``divisor``, snapped to it; the whole image unless ``tight``."""
    box = []
    for axis, extent in enumerate(support.shape):
        others = [other for other in range(support.ndim) if other != axis]
        sites = torch.nonzero(support.amax(dim=others)).flatten()
        low = max(int(sites[0]) // divisor - 1, 0) * divisor
        high = min((int(sites[-1]) // divisor + 2) * divisor, extent)
        box.append(slice(low, high) if tight else slice(0, extent))
    return tuple(box)


def _windows(perturber: Perturber, image: Tensor, label: Tensor | None, case_id: str, window_sites: int) -> Tensor:
    channels, shape, divisor = image.shape[1], image.shape[2:], perturber.divisor
    if shape.numel() <= window_sites:
        return perturber.delta(image, [case_id], label)
    # Half a window of overlap then keeps the origins on multiples of the divisor, so that windows agree in phase.
    side = round(window_sites ** (1 / len(shape))) // (2 * divisor) * 2 * divisor
    size = [min(max(side, 2 * divisor), extent) for extent in shape]

    def predict(window: Tensor) -> Tensor:
        classes = None if label is None else window[:, channels:].long()
        return perturber.delta(window[:, :channels], [case_id] * len(window), classes)

    stacked = image if label is None else torch.cat([image, label.to(image.dtype)], dim=1)
    return sliding_window_inference(stacked, size, 1, predict, overlap=0.5, mode="gaussian")  # type: ignore[return-value]
