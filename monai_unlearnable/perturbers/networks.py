# SPDX-License-Identifier: Apache-2.0
"""The generator networks of the learned perturbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

__all__ = ["CentralDifferenceConv", "NoiseUNet"]

# Noise starts near zero, so that gradients decide on its pattern and not the first weights, which tanh would freeze.
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
        stride: of the convolution; the kernel size is 3.
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
    """A small U-Net that halves the resolution once a stage and returns one unbounded value a site and channel.

    Its first stage already strides: noise is coarse to compute and fine to emit (a transposed convolution), which costs
    an eighth of a full-resolution network on volumes. Input sizes are multiples of ``2 ** len(channels)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels, in and out.
        channels: width of each stage.
        theta: of the :class:`CentralDifferenceConv` in the encoder; 0 for plain convolutions.
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
