# SPDX-License-Identifier: Apache-2.0
"""MONAI transforms: lossless loading, masks, stored noise, generated noise."""

from .io import *  # noqa: F403
from .io import __all__ as _io
from .masks import *  # noqa: F403
from .masks import __all__ as _masks
from .noise import *  # noqa: F403
from .noise import __all__ as _noise

__all__ = [*_io, *_masks, *_noise]
