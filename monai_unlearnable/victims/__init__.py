# SPDX-License-Identifier: Apache-2.0
"""The exploiter: recipes and training; it reads folders and knows nothing of how noise was made."""

from . import networks, patches, recipes, tasks, training, weights
from .networks import *  # noqa: F403
from .patches import *  # noqa: F403
from .recipes import *  # noqa: F403
from .tasks import *  # noqa: F403
from .training import *  # noqa: F403
from .weights import *  # noqa: F403

__all__ = [*networks.__all__, *patches.__all__, *recipes.__all__]
__all__ += [*tasks.__all__, *training.__all__, *weights.__all__]
