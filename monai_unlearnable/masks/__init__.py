# SPDX-License-Identifier: Apache-2.0
"""Masks: where noise may go, and how much of it."""

from .base import Complement, Everywhere, Intersection, MaskProvider, Union
from .regions import ContourBand, Roi
from .texture import TextureMap

__all__ = ["Complement", "ContourBand", "Everywhere", "Intersection", "MaskProvider", "Roi", "TextureMap", "Union"]
