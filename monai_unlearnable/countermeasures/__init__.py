# SPDX-License-Identifier: Apache-2.0
"""What an exploiter does to the images first; it knows nothing of how noise was made."""

from .base import Countermeasure, Material, Prepared, prepare

__all__ = ["Countermeasure", "Material", "Prepared", "prepare"]

# Transforms of images
from .channels import UnitTransform, UnitTransformD, UnitTransformd, UnitTransformDict
from .classifiers import area_under_curve
from .codecs import *  # noqa: F403
from .codecs import __all__ as _codecs
from .denoising import *  # noqa: F403
from .denoising import __all__ as _denoising
from .detectors import *  # noqa: F403
from .detectors import __all__ as _detectors
from .filters import *  # noqa: F403
from .filters import __all__ as _filters
from .intensity import *  # noqa: F403
from .intensity import __all__ as _intensity
from .learning import LearnedChangeD, LearnedChanged, LearnedChangeDict, NetworkChange, Patches
from .mixing import MixClean
from .networks import RateConstrainedVAE, ResidualUNet
from .projection import *  # noqa: F403
from .projection import __all__ as _projection
from .purifiers import *  # noqa: F403
from .purifiers import __all__ as _purifiers
from .resampling import *  # noqa: F403
from .resampling import __all__ as _resampling
from .selection import IterativeFilter

__all__ += ["UnitTransform", "UnitTransformD", "UnitTransformDict", "UnitTransformd"]
__all__ += [*_codecs, *_denoising, *_filters, *_intensity, *_resampling]

# What is learned from the data, or changes its cases
__all__ += ["LearnedChangeD", "LearnedChangeDict", "LearnedChanged", "NetworkChange", "Patches"]
__all__ += ["IterativeFilter", "MixClean", "RateConstrainedVAE", "ResidualUNet", "area_under_curve"]
__all__ += [*_detectors, *_projection, *_purifiers]
