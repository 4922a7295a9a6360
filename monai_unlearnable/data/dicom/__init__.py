# SPDX-License-Identifier: Apache-2.0
"""data.dicom"""

from .files import is_series, list_files
from .format import DicomFormat
from .header import annotation_remarks, is_annotation, rename
from .segmentation import read_segmentation

__all__ = [
    "DicomFormat",
    "annotation_remarks",
    "is_annotation",
    "is_series",
    "list_files",
    "read_segmentation",
    "rename",
]
