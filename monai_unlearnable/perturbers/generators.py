# SPDX-License-Identifier: Apache-2.0
"""Noise drawn by trained generator networks: UMed and VoxShield, our readings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import ContourBand, MaskProvider, Roi, TextureMap
from monai_unlearnable.perturbers.base import Perturber

__all__ = ["CentralDifferenceConv", "NoiseUNet", "UMed", "VoxShield"]

# Noise starts near zero, so that gradients shape its pattern, not the first weights, which tanh would freeze.
INITIAL_GAIN = 0.1


class CentralDifferenceConv(nn.Module):
    """Convolution that mixes intensities with their differences to the center: ``conv(x; w) - theta * x * sum(w)``.

    The second term is a 1x1 convolution by the summed kernel, so both are one convolution whose central weight is
    lowered by ``theta * sum(w)`` (Yu et al., Searching Central Difference Convolutional Networks, CVPR 2020, eq. 5;
    used in the contour encoder of UMed).

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of output channels.
        stride: stride of the convolution; the kernel size is 3.
        theta: 0 for a plain convolution, 1 for pure differences.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int, theta: float) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 3, stride=stride, padding=1)
        self.theta = theta
        center = torch.zeros(1, 1, *[3] * spatial_dims)
        center.view(-1)[3**spatial_dims // 2] = 1
        self.register_buffer("center", center, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        total = weight.sum(dim=tuple(range(2, weight.ndim)), keepdim=True)
        return self.conv._conv_forward(x, weight - self.theta * total * self.center, self.conv.bias)


class NoiseUNet(nn.Module):
    """A small U-Net that halves the resolution once a stage and returns one unbounded value a voxel and channel.

    Its first stage already strides: noise is coarse to compute and fine to emit (a transposed convolution), which costs
    an eighth of a full-resolution network on volumes. Input sizes are multiples of ``2 ** len(channels)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels, in and out.
        channels: width of each stage.
        theta: theta of the :class:`CentralDifferenceConv` in the encoder; 0 for plain convolutions.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int], theta: float = 0.0) -> None:
        super().__init__()
        up = Conv[Conv.CONVTRANS, spatial_dims]
        widths = [in_channels, *channels]

        def block(fan_in: int, fan_out: int, stride: int, theta: float) -> nn.Sequential:
            return nn.Sequential(
                CentralDifferenceConv(spatial_dims, fan_in, fan_out, stride, theta),
                Norm[Norm.INSTANCE, spatial_dims](fan_out, affine=True),
                nn.LeakyReLU(0.1),
            )

        self.encoders = nn.ModuleList(
            block(fan_in, fan_out, 2, theta) for fan_in, fan_out in zip(widths, channels, strict=False)
        )
        self.ups = nn.ModuleList(up(wide, narrow, 2, 2) for narrow, wide in itertools.pairwise(channels))
        self.decoders = nn.ModuleList(block(2 * width, width, 1, 0.0) for width in channels[:-1])
        self.head = up(channels[0], in_channels, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        for up, decoder, skip in reversed(list(zip(self.ups, self.decoders, skips[:-1], strict=True))):
            x = decoder(torch.cat([skip, up(x)], dim=1))
        return INITIAL_GAIN * self.head(x)


# The least strength, as a fraction of the budget, to which generators may lower noise on a carrier.
CARRIER_FLOOR = 0.8


class UMed(Perturber):
    r"""Contour- and texture-aware noise for segmentation, after UMed (arXiv 2403.14250), our reading.

    .. math::
        \delta = \epsilon\,\tau(G_c(x)) \odot M_c + \epsilon\,T \odot \tau(G_t(x)) \odot M_i

    with the contour band :math:`M_c`, the rest of the region :math:`M_i` and a texture map :math:`T`. The encoder of
    :math:`G_c` uses central-difference convolutions. The two terms never overlap and :math:`|\tau| < 1`, so
    :math:`|\delta| < \epsilon` without clamping, which would stop gradients.

    Without a carrier :math:`\tau = \tanh`. With one (our addition) :math:`\tau(g) = s\,(0.8 + 0.2\,\sigma(g))`: the
    sign :math:`s` alternates from voxel to voxel along one axis, and the generators decide on the strength alone. By
    themselves they settle on patterns that fresh models learn too late to matter, or tell classes apart by giving
    one of them hardly any noise.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        epsilon: largest change of a voxel, in normalized intensity.
        channels: widths of the generators; sizes must be multiples of ``2 ** len(channels)``.
        theta: theta of the central-difference convolutions.
        support: mask of where noise is allowed; by default the exact region. The paper's band reaches beyond it.
        contour: the band :math:`M_c`, intersected with ``support``.
        texture: the map :math:`T`.
        carrier_axis: spatial axis of the carrier, preferably the smoothest one of the scans; None for no carrier.
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
        if carrier_axis is not None and carrier_axis not in range(spatial_dims):
            raise InputError(f"carrier_axis is {carrier_axis}; axes are 0 to {spatial_dims - 1}", value=carrier_axis)
        self.carrier_axis = carrier_axis
        self.divisor = 2 ** len(self.channels)

    @property
    def needs_label(self) -> bool:
        return self.allowed.needs_label or self.contour.needs_label or self.texture.needs_label

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
        voxels = torch.arange(raw.shape[2 + self.carrier_axis], device=raw.device)
        shape = [-1 if axis == self.carrier_axis else 1 for axis in range(self.spatial_dims)]
        carrier = (2 * (voxels % 2) - 1).reshape(shape).to(raw.dtype)
        return carrier * (CARRIER_FLOOR + (1 - CARRIER_FLOOR) * torch.sigmoid(raw))


class VoxShield(Perturber):
    r"""Noise of a generator in the region, after VoxShield (arXiv 2605.17345), our reading.

    .. math:: \delta = \epsilon \tanh(G(x)) \odot S

    with the support :math:`S`, by default the exact region. It becomes volumetric by the training of :math:`G`, with
    :class:`~monai_unlearnable.training.LogitDivergence` and :class:`~monai_unlearnable.training.SliceContrast`.

    Args:
        spatial_dims: 3, or 2 without the slice term.
        in_channels: image channels.
        epsilon: largest change of a voxel, in normalized intensity.
        channels: widths of the generator; sizes must be multiples of ``2 ** len(channels)``.
        support: mask of where noise is allowed.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        epsilon: float = 8 / 255,
        channels: Sequence[int] = (8, 16, 32),
        support: MaskProvider | None = None,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels, self.epsilon = spatial_dims, in_channels, epsilon
        self.channels = tuple(channels)
        self.allowed = Roi() if support is None else support
        self._depend_on(self.allowed)
        self.generator = NoiseUNet(spatial_dims, in_channels, self.channels)
        self.divisor = 2 ** len(self.channels)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        support = self.support(image, label) if support is None else support
        # In the precision of the support: epsilon rounded to bfloat16, as under autocast, may be larger than epsilon.
        return self.epsilon * support * torch.tanh(self.generator(image))
