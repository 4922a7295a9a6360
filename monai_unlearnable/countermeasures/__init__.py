# SPDX-License-Identifier: Apache-2.0
"""What an exploiter does to the images first, without knowing how noise was made."""

from . import base, codecs, denoiser, detectors, filters, learning, projection, purifiers, selection, spectrum
from .base import *  # noqa: F403
from .codecs import *  # noqa: F403
from .denoiser import *  # noqa: F403
from .detectors import *  # noqa: F403
from .filters import *  # noqa: F403
from .learning import *  # noqa: F403
from .projection import *  # noqa: F403
from .purifiers import *  # noqa: F403
from .selection import *  # noqa: F403
from .spectrum import *  # noqa: F403

__all__ = [*base.__all__, *codecs.__all__, *denoiser.__all__, *detectors.__all__, *filters.__all__, *learning.__all__]
__all__ += [*projection.__all__, *purifiers.__all__, *selection.__all__, *spectrum.__all__]
