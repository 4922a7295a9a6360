# SPDX-License-Identifier: Apache-2.0
"""Datasets of scans: found, read and written without loss."""

from monai_unlearnable.data.cases import LoadedCase, read_case
from monai_unlearnable.data.datalist import Case, load_cases
from monai_unlearnable.data.formats import find_format, output_name, read_scan, stem, write_scan
from monai_unlearnable.data.inspection import DatasetSummary, inspect_cases
from monai_unlearnable.data.labels import encode_label, read_label
from monai_unlearnable.data.medmnist import pack_archive, unpack_archive
from monai_unlearnable.data.scan import Scan, voxel_digest

__all__ = [
    "Case",
    "DatasetSummary",
    "LoadedCase",
    "Scan",
    "encode_label",
    "find_format",
    "inspect_cases",
    "load_cases",
    "output_name",
    "pack_archive",
    "read_case",
    "read_label",
    "read_scan",
    "stem",
    "unpack_archive",
    "voxel_digest",
    "write_scan",
]
