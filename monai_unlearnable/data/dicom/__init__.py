# SPDX-License-Identifier: Apache-2.0
"""DICOM: folders that hold one series each, and single files; segmentations of them."""

from .files import annotation_remarks, is_annotation, is_dicom, is_series, list_files, rename
from .format import DicomFormat
from .segmentation import read_segmentation
