# SPDX-License-Identifier: Apache-2.0
"""Masks: where noise may go, and how much of it."""

from .base import Complement, ContourBand, Everywhere, Intersection, MaskProvider, OfClasses, Roi, TextureMap, Union
from .sparsity import ForegroundScore, GradientScore, RandomScore, Score, Sparsity, TopK, VarianceScore, top_k
