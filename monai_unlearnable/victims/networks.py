# SPDX-License-Identifier: Apache-2.0
"""Architectures of victims, by name."""

from __future__ import annotations

from collections.abc import Callable

from monai.networks.nets import BasicUNet, UNet
from monai.utils import look_up_option
from torch import nn

__all__ = ["SEGMENTATION_NETWORKS", "segmentation_network"]


def _unet(dims: int, channels: int, classes: int) -> nn.Module:
    return UNet(dims, channels, classes, (8, 16, 32, 64), (2, 2, 2), num_res_units=1, norm="instance")


def _basic_unet(dims: int, channels: int, classes: int) -> nn.Module:
    return BasicUNet(dims, channels, classes, features=(8, 8, 16, 32, 64, 8), norm="instance")


# name -> function of spatial dimensions, image channels and classes
SEGMENTATION_NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {"UNet": _unet, "BasicUNet": _basic_unet}


def segmentation_network(name: str, spatial_dims: int, in_channels: int, num_classes: int) -> nn.Module:
    """A victim's network.

    Args:
        name: one of :data:`SEGMENTATION_NETWORKS`.
        spatial_dims: 2 or 3.
        in_channels: image channels.
        num_classes: classes, background included.

    Raises:
        ValueError: listing the names, when there is no such network.
    """
    return look_up_option(name, SEGMENTATION_NETWORKS)(spatial_dims, in_channels, num_classes)  # type: ignore[no-any-return, operator]
