# SPDX-License-Identifier: Apache-2.0
"""DICOM: series in folders, folders that hold several volumes, and single files; annotations of them."""

from .annotations import read_annotation
from .detection import is_dicom, is_image
from .files import annotation_remarks, is_annotation, is_series, rename
from .format import DicomFormat
from .volumes import Volume, as_channels, files_of, survey, volume_at, volumes
