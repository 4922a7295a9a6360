# SPDX-License-Identifier: Apache-2.0
"""Victims that other programs train, in environments of their own: nnU-Net v2 through its own commands."""

from . import nnunet, raw
from .commands import ENVIRONMENT
from .nnunet import *  # noqa: F403
from .raw import *  # noqa: F403

__all__ = ["ENVIRONMENT", *nnunet.__all__, *raw.__all__]
