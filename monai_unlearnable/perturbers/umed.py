# SPDX-License-Identifier: Apache-2.0
"""UMed-style noise: one generator for the contours, one for the texture inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from monai_unlearnable.masks import ContourBand, MaskProvider, Roi, TextureMap
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.networks import NoiseUNet

__all__ = ["UMed"]

# The least strength, as a share of the budget, to which generators may lower noise that rides on a carrier.
CARRIER_FLOOR = 0.8


class UMed(Perturber):
    r"""Contour- and texture-aware noise for segmentation, after UMed (arXiv 2403.14250), our reading.

    .. math::
        \delta = \epsilon\,\tau(G_c(x)) \odot M_c + \epsilon\,T \odot \tau(G_t(x)) \odot M_i

    with the contour band :math:`M_c`, the rest of the region :math:`M_i` and a texture map :math:`T`. The encoder of
    :math:`G_c` uses central-difference convolutions. The two terms never overlap and :math:`|\tau| < 1`, so
    :math:`|\delta| < \epsilon` without clamping, which would stop gradients.

    Without a carrier :math:`\tau = \tanh`. With one (our addition) :math:`\tau(g) = s\,(0.8 + 0.2\,\sigma(g))`: the
    sign :math:`s` alternates from site to site along one axis, and the generators decide on the strength alone, within
    limits. Left to themselves they settle on lattices that fresh models learn too late to matter, or tell classes apart
    by giving one of them hardly any noise.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        epsilon: largest change of a site, in unit intensity.
        channels: widths of the generators; sizes must be multiples of ``2 ** len(channels)``.
        theta: of the central-difference convolutions.
        support: where noise is allowed at all; the exact region by default, the paper's band reaches 3 sites beyond it.
        contour: the band :math:`M_c`, intersected with ``support``.
        texture: the map :math:`T`.
        carrier_axis: spatial axis of the carrier, best the smoothest one of the scans; None for no carrier.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        epsilon: float = 8 / 255,
        channels: Sequence[int] = (8, 16, 32),
        theta: float = 0.7,
        support: MaskProvider | None = None,
        contour: MaskProvider | None = None,
        texture: MaskProvider | None = None,
        carrier_axis: int | None = None,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels, self.epsilon = spatial_dims, in_channels, epsilon
        self.channels, self.theta = tuple(channels), theta
        self.allowed = Roi() if support is None else support
        self.contour = ContourBand() if contour is None else contour
        self.texture = TextureMap() if texture is None else texture
        self._depend_on(self.allowed, self.contour, self.texture)
        self.contour_net = NoiseUNet(spatial_dims, in_channels, self.channels, theta)
        self.texture_net = NoiseUNet(spatial_dims, in_channels, self.channels)
        self.carrier_axis = carrier_axis
        self.divisor = 2 ** len(self.channels)

    @property
    def needs_label(self) -> bool:  # type: ignore[override]
        return self.allowed.needs_label or self.contour.needs_label or self.texture.needs_label

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal perturber (weights apart)."""
        names = ("spatial_dims", "in_channels", "epsilon", "channels", "theta", "contour", "texture", "carrier_axis")
        return {**{name: getattr(self, name) for name in names}, "support": self.allowed}

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        contour = self.contour(image, label)
        inside = (1 - contour) * self.texture(image, label)
        at_contour, in_texture = self._bounded(self.contour_net(image)), self._bounded(self.texture_net(image))
        return self.epsilon * support * (at_contour * contour + in_texture * inside)

    def _bounded(self, raw: Tensor) -> Tensor:
        if self.carrier_axis is None:
            return torch.tanh(raw)
        return self._carrier(raw) * (CARRIER_FLOOR + (1 - CARRIER_FLOOR) * torch.sigmoid(raw))

    def _carrier(self, image: Tensor) -> Tensor:
        assert self.carrier_axis is not None
        sites = torch.arange(image.shape[2 + self.carrier_axis], device=image.device)
        shape = [-1 if axis == self.carrier_axis else 1 for axis in range(self.spatial_dims)]
        return (2 * (sites % 2) - 1).reshape(shape).to(image.dtype)
