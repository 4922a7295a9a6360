# SPDX-License-Identifier: Apache-2.0
"""Whether a model was trained on protected scans: an exact test over the marks of keys."""

from monai_unlearnable.tracing.asking import trace
from monai_unlearnable.tracing.blackbox import judge, prepare
from monai_unlearnable.tracing.check import check_trace
from monai_unlearnable.tracing.randomization import Outcome, sequential_test
from monai_unlearnable.tracing.suspects import Suspect, open_suspect

__all__ = ["Outcome", "Suspect", "check_trace", "judge", "open_suspect", "prepare", "sequential_test", "trace"]
