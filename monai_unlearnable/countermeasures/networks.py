# SPDX-License-Identifier: Apache-2.0
"""Small fully convolutional networks that take an image and return one of the same size."""

from __future__ import annotations

from typing import Any

from monai.networks.layers.factories import Conv
from monai.networks.nets import UNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn, randn_like

__all__ = ["RateConstrainedVAE", "ResidualUNet"]


class RateConstrainedVAE(nn.Module):
    """A convolutional variational autoencoder that says how much its latent carries.

    The decoder repeats each site and convolves. One that rearranged channels into sites, or strode, could redraw a
    pattern that is locked to the grid from a constant latent, at no rate. There is no normalization, so that patches
    and whole images are treated alike.

    In training it returns the reconstruction from a sampled latent and the rate; in evaluation the reconstruction from
    the mean of the latent alone.

    Args:
        spatial_dims: 2 or 3.
        channels: image channels.
        width: channels of the first stage, doubled at each further one.
        latent_channels: channels of the latent, at the coarsest resolution.
        stages: times the resolution is halved; input sizes are multiples of ``2**stages``.
    """

    def __init__(self, spatial_dims: int, channels: int, width: int, latent_channels: int, stages: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(stages)]
        encoder: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths, strict=False):
            encoder += [_convolution(spatial_dims, before, after, stride=2), nn.PReLU()]
        self.encoder = nn.Sequential(*encoder, _convolution(spatial_dims, widths[-1], widths[-1]), nn.PReLU())
        self.latent = _convolution(spatial_dims, widths[-1], 2 * latent_channels)
        decoder = [_convolution(spatial_dims, latent_channels, widths[-1]), nn.PReLU()]
        # Half the width at full resolution, where a channel is dear.
        finest = max(width // 2, 1)
        for before, after in zip(widths[::-1], [*widths[-2::-1], finest], strict=True):
            decoder += [_convolution(spatial_dims, before, after), nn.PReLU(), nn.Upsample(scale_factor=2)]
        self.decoder = nn.Sequential(*decoder, _convolution(spatial_dims, finest, channels))
        # Little noise at first: a latent that is all noise teaches the decoder nothing.
        nn.init.constant_(self.latent.bias[latent_channels:], -3.0)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        mean, log_variance = self.latent(self.encoder(image)).chunk(2, dim=1)
        if not self.training:
            return self.decoder(mean)
        log_variance = log_variance.clamp(-10, 10)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = randn_like(mean, device="cpu").to(mean.device)
        reconstruction = self.decoder(mean + (log_variance / 2).exp() * noise)
        rate = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2 / image.numel()
        return reconstruction, rate


class ResidualUNet(nn.Module):
    """A small U-Net that corrects an image, at the cost of half its resolution.

    Blocks of two sites an axis become channels, go through MONAI's U-Net and become sites again: nothing is lost on the
    way in, and noise that is locked to the grid is the same at every site.

    Args:
        spatial_dims: 2 or 3.
        channels: image channels.
        width: channels of the first stage.
    """

    multiple = 8
    """Input sizes are multiples of this."""

    def __init__(self, spatial_dims: int, channels: int, width: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        folded = channels * 2**spatial_dims
        self.unet = UNet(
            spatial_dims,
            folded,
            folded,
            channels=(width, 2 * width, 4 * width),
            strides=(1, 2),
            norm=None,  # type: ignore[arg-type]
        )

    def forward(self, image: Tensor) -> Tensor:
        folded = pixelunshuffle(image, self.spatial_dims, 2)
        # Starts near the identity: noise is small, and so is its correction.
        return image + 0.1 * pixelshuffle(self.unet(folded), self.spatial_dims, 2)


def _convolution(spatial_dims: int, before: int, after: int, stride: int = 1) -> Any:
    # Zeros around the image would tell how far the border is, and so where a fixed pattern lies.
    layer = Conv[Conv.CONV, spatial_dims](before, after, 3, stride=stride, padding=1, padding_mode="replicate")
    nn.init.kaiming_normal_(layer.weight, a=0.25)  # slope at which PReLU begins
    nn.init.zeros_(layer.bias)
    return layer
