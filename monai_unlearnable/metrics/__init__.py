# SPDX-License-Identifier: Apache-2.0
"""Figures: fidelity of protected scans, scores of victims."""

from .fidelity import LOSSLESS_PSNR, measure_fidelity

__all__ = ["LOSSLESS_PSNR", "measure_fidelity"]
