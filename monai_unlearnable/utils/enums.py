# SPDX-License-Identifier: Apache-2.0
"""Names used as dictionary keys in data passed between transforms, engines and workflows."""

from __future__ import annotations

__all__ = ["CaseKeys", "MetaKeys"]


class CaseKeys:
    """Keys of a case, the dictionary that flows through MONAI pipelines."""

    IMAGE = "image"
    LABEL = "label"
    CASE_ID = "case_id"
    STEP = "step"


class MetaKeys:
    """Entries that this package adds to ``MetaTensor.meta``."""

    PROTECTION = "protection"
    QUANTIZATION = "quantization"
