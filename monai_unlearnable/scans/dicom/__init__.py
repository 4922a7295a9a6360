# SPDX-License-Identifier: Apache-2.0
"""DICOM: folders that hold one series each, and single files."""

from .files import is_series, list_files
from .format import DicomFormat

__all__ = ["DicomFormat", "is_series", "list_files"]
