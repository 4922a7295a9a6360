# SPDX-License-Identifier: Apache-2.0
"""The exploiter: recipes and training; it reads folders and knows nothing of how noise was made."""

from . import (
    augmentation,
    batch_attacks,
    networks,
    patches,
    prediction,
    preprocessing,
    pretraining,
    recipes,
    tasks,
    training,
    weight_attacks,
    weights,
)
from .augmentation import *  # noqa: F403
from .batch_attacks import *  # noqa: F403
from .networks import *  # noqa: F403
from .patches import *  # noqa: F403
from .prediction import *  # noqa: F403
from .preprocessing import *  # noqa: F403
from .pretraining import *  # noqa: F403
from .recipes import *  # noqa: F403
from .tasks import *  # noqa: F403
from .training import *  # noqa: F403
from .weight_attacks import *  # noqa: F403
from .weights import *  # noqa: F403

__all__ = [*augmentation.__all__, *batch_attacks.__all__, *networks.__all__, *patches.__all__, *prediction.__all__]
__all__ += [*preprocessing.__all__, *pretraining.__all__, *recipes.__all__, *tasks.__all__, *training.__all__]
__all__ += [*weight_attacks.__all__, *weights.__all__]
