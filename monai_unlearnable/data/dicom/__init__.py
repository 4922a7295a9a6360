# SPDX-License-Identifier: Apache-2.0
"""DICOM: series in folders, folders that hold several volumes, and single files; annotations of them."""

from .annotations import read_annotation
from .derivation import annotation_remarks, rename
from .detection import is_annotation, is_dicom, is_image
from .format import DicomFormat
from .volumes import Volume, dicom_files, survey, volume_at, volumes
