# SPDX-License-Identifier: Apache-2.0
"""Ignite engines that train perturbers."""

from .loading import EpochLoader
from .protection import ProtectionTrainer
from .surrogates import SurrogatePool
from .views import standardize

__all__ = ["EpochLoader", "ProtectionTrainer", "SurrogatePool", "standardize"]
