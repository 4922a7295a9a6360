# SPDX-License-Identifier: Apache-2.0
"""The exploiter: architectures, recipes and training; it reads folders and knows nothing of how noise was made."""

from .networks import SEGMENTATION_NETWORKS, segmentation_network
from .recipes import Recipe
from .segmentation import train_and_score

__all__ = ["Recipe", "SEGMENTATION_NETWORKS", "segmentation_network", "train_and_score"]
