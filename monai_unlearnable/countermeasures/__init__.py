# SPDX-License-Identifier: Apache-2.0
"""What an exploiter does to the images first; it knows nothing of how noise was made."""

from .base import *  # noqa: F403
from .codecs import *  # noqa: F403
from .codecs import __all__ as _codecs
from .detectors import AreaUnderCurve, Separability, area_under_curve, label_separability, scan_statistics, separability
from .filters import *  # noqa: F403
from .filters import __all__ as _filters
from .learning import LearnedChangeD, LearnedChanged, LearnedChangeDict, NetworkChange, Patches
from .projection import *  # noqa: F403
from .projection import __all__ as _projection
from .purifiers import *  # noqa: F403
from .purifiers import __all__ as _purifiers
from .selection import *  # noqa: F403
from .selection import __all__ as _selection

__all__ = ["Countermeasure", "Material", "Prepared", "prepare"]  # noqa: F405
__all__ += ["NormalizedTransform", "NormalizedTransformD", "NormalizedTransformDict", "NormalizedTransformd"]  # noqa: F405
__all__ += [*_codecs, *_filters]
__all__ += ["LearnedChangeD", "LearnedChangeDict", "LearnedChanged", "NetworkChange", "Patches"]
__all__ += [*_projection, *_purifiers, *_selection]
__all__ += ["AreaUnderCurve", "Separability", "area_under_curve"]
__all__ += ["label_separability", "scan_statistics", "separability"]
