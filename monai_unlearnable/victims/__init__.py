# SPDX-License-Identifier: Apache-2.0
"""The exploiter: recipes and training; it reads folders and knows nothing of how noise was made."""

from . import (
    adversary,
    attacks,
    augmentation,
    checkpoints,
    inference,
    networks,
    patches,
    placement,
    preprocessing,
    recipes,
    resampling,
    tasks,
    training,
    weights,
)
from .adversary import *  # noqa: F403
from .attacks import *  # noqa: F403
from .augmentation import *  # noqa: F403
from .checkpoints import *  # noqa: F403
from .inference import *  # noqa: F403
from .networks import *  # noqa: F403
from .patches import *  # noqa: F403
from .placement import *  # noqa: F403
from .preprocessing import *  # noqa: F403
from .recipes import *  # noqa: F403
from .resampling import *  # noqa: F403
from .tasks import *  # noqa: F403
from .training import *  # noqa: F403
from .weights import *  # noqa: F403

__all__ = [*adversary.__all__, *attacks.__all__, *augmentation.__all__, *checkpoints.__all__]
__all__ += [
    *inference.__all__,
    *networks.__all__,
    *patches.__all__,
    *placement.__all__,
    *preprocessing.__all__,
    *recipes.__all__,
]
__all__ += [*resampling.__all__, *tasks.__all__, *training.__all__, *weights.__all__]
