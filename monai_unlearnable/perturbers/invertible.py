# SPDX-License-Identifier: Apache-2.0
"""An invertible network that hides one image in another."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from monai_unlearnable.utils.config import Configurable

__all__ = ["Coupling", "HidingNetwork", "haar", "haar_inverse"]

INITIAL_GAIN = 0.1  # blocks start near the identity, so that what is hidden starts faint


def haar(image: Tensor) -> Tensor:
    """One level of the orthonormal Haar wavelet transform: means and differences of neighbors, along each axis.

    Args:
        image: (B, C, spatial...), even sizes.

    Returns:
        (B, C * 2^d, spatial / 2...) for d axes. The first C channels are the lowest band: the mean of each block of 2^d
        voxels, times 2^(d/2).
    """
    for axis in range(2, image.ndim):
        first, second = image.unflatten(axis, (-1, 2)).unbind(axis + 1)
        image = torch.cat([first + second, first - second], dim=1) / 2**0.5
    return image


def haar_inverse(bands: Tensor) -> Tensor:
    """The image with these bands; the inverse of :func:`haar`."""
    for axis in reversed(range(2, bands.ndim)):
        total, difference = bands.chunk(2, dim=1)
        pair = torch.stack([total + difference, total - difference], dim=axis + 1) / 2**0.5
        bands = pair.flatten(axis, axis + 1)
    return bands


def convolutions(spatial_dims: int, in_channels: int, out_channels: int, width: int) -> nn.Sequential:
    """Three convolutions that see 7 voxels along each axis."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(in_channels, width, 3, padding=1),
        nn.LeakyReLU(0.1),
        conv(width, width, 3, padding=1),
        nn.LeakyReLU(0.1),
        conv(width, out_channels, 3, padding=1),
    )


class Coupling(nn.Module):
    r"""An invertible block: two branches change each other in turn.

    .. math::
        c' = c + \phi(h), \qquad h' = h \odot \exp(\alpha(\rho(c'))) + \eta(c')

    with the cover :math:`c`, what is hidden :math:`h`, three small convolutional networks and
    :math:`\alpha = \tanh`. After HiNet (Jing et al., Deep Image Hiding by Invertible Network, ICCV 2021), whose
    networks are dense blocks.

    Args:
        spatial_dims: 2 or 3.
        cover_channels: channels of the cover's bands.
        hidden_channels: channels of the hidden image's bands.
        width: channels of the networks.
    """

    def __init__(self, spatial_dims: int, cover_channels: int, hidden_channels: int, width: int) -> None:
        super().__init__()
        self.phi = convolutions(spatial_dims, hidden_channels, cover_channels, width)
        self.rho = convolutions(spatial_dims, cover_channels, hidden_channels, width)
        self.eta = convolutions(spatial_dims, cover_channels, hidden_channels, width)

    def forward(self, cover: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        cover = cover + INITIAL_GAIN * self.phi(hidden)
        return cover, hidden * self._scale(cover).exp() + INITIAL_GAIN * self.eta(cover)

    def inverse(self, cover: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` was given, from what it returned."""
        hidden = (hidden - INITIAL_GAIN * self.eta(cover)) * (-self._scale(cover)).exp()
        return cover - INITIAL_GAIN * self.phi(hidden), hidden

    def _scale(self, cover: Tensor) -> Tensor:
        return torch.tanh(INITIAL_GAIN * self.rho(cover))


class HidingNetwork(nn.Module, Configurable):
    """Hides an image in a cover, and reveals it by the same weights run backwards; after HiNet, much smaller.

    Both images are split into wavelet bands, which go through a chain of :class:`Coupling` blocks. One branch becomes
    the stego image, which looks like the cover. The other is thrown away, and taken for zero when the hidden image is
    revealed.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the cover; the hidden image has one.
        blocks: number of blocks.
        width: channels of the networks in a block.
    """

    def __init__(self, spatial_dims: int, in_channels: int = 1, blocks: int = 3, width: int = 8) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels = spatial_dims, in_channels
        self.blocks, self.width = blocks, width
        bands = 2**spatial_dims
        couplings = [Coupling(spatial_dims, bands * in_channels, bands, width) for _ in range(blocks)]
        self.couplings = nn.ModuleList(couplings)

    def forward(self, images: Tensor) -> Tensor:
        """The stego image of a cover and what is hidden, as the channels of one tensor (B, C + 1, spatial...)."""
        return self.hide(images[:, :-1], images[:, -1:])[0]

    def hide(self, cover: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The stego image and the bands of what is thrown away.

        Args:
            cover: (B, C, spatial...), even sizes.
            hidden: (B, 1, spatial...).
        """
        first, second = haar(cover), haar(hidden)
        for coupling in self.couplings:
            first, second = coupling(first, second)
        return haar_inverse(first), second

    def reveal(self, stego: Tensor, thrown: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cover and hidden image of a stego image: the very same with what was thrown away, estimates without.

        Args:
            stego: (B, C, spatial...), even sizes.
            thrown: bands of :meth:`hide`; None for zero.
        """
        first = haar(stego)
        second = torch.zeros_like(first[:, :: self.in_channels]) if thrown is None else thrown
        for coupling in reversed(list(self.couplings)):
            assert isinstance(coupling, Coupling)
            first, second = coupling.inverse(first, second)
        return haar_inverse(first), haar_inverse(second)
