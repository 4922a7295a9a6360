# SPDX-License-Identifier: Apache-2.0
"""Publish medical scans that people can read and that models cannot be trained on."""

__version__ = "0.1.0"

__all__ = ["__version__"]
