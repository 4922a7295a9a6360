# SPDX-License-Identifier: Apache-2.0
"""Masks: where noise may go, and how much of it."""

from .base import Complement, Everywhere, Intersection, MaskProvider, Union
from .regions import ContourBand, OfClasses, Roi
from .texture import TextureMap

__all__ = [
    "Complement",
    "ContourBand",
    "Everywhere",
    "Intersection",
    "OfClasses",
    "MaskProvider",
    "Roi",
    "TextureMap",
    "Union",
]
