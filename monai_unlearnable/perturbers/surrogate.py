# SPDX-License-Identifier: Apache-2.0
"""The network that stands in for the exploiter's, as part of a perturber."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from monai_unlearnable.catalog import Catalog
from monai_unlearnable.config import Configurable
from monai_unlearnable.seeding import isolated_seed

__all__ = ["Surrogate"]


class Surrogate(nn.Module, Configurable):
    """A network of the package's catalog, named so that a checkpoint can make it again.

    Args:
        name: entry of ``catalogs/networks.yaml``, such as ``"ResNet18"`` or ``"UNet"``.
        spatial_dims: 2 or 3.
        in_channels: image channels.
        num_classes: outputs.
        size: spatial size of the input.
        width: channels of the first layer.

    Raises:
        InputError: listing the names, when there is no such network, or it cannot be built for this size.
    """

    def __init__(
        self, name: str, spatial_dims: int, in_channels: int, num_classes: int, size: Sequence[int], width: int = 8
    ) -> None:
        super().__init__()
        # Numbers only: checkpoints travel, and the catalog would evaluate a string.
        self.name, self.spatial_dims, self.in_channels = name, int(spatial_dims), int(in_channels)
        self.num_classes, self.size, self.width = int(num_classes), tuple(int(extent) for extent in size), int(width)
        values = {"dims": self.spatial_dims, "channels": self.in_channels, "classes": self.num_classes}
        with isolated_seed(0):
            self.network = Catalog.load("networks").build(name, **values, size=list(self.size), width=self.width)

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal network (weights apart)."""
        names = ("name", "spatial_dims", "in_channels", "num_classes", "size", "width")
        return {name: getattr(self, name) for name in names}

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes[, spatial...]) of network input; of deep supervision the finest."""
        logits: Tensor = self.network(image)
        return logits[:, 0] if logits.ndim > image.ndim else logits
