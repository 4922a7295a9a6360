# SPDX-License-Identifier: Apache-2.0
"""The method that chooses itself."""

from .auto import protect_auto
from .rounds import Choice, Round, Rounds
from .trials import Candidate, Trials
