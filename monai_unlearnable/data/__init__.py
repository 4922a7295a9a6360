# SPDX-License-Identifier: Apache-2.0
"""Datasets of scans: found, read and written without loss."""

from .cases import LoadedCase, encode_label, read_case, read_label
from .datalist import Case
from .formats import find_format, output_name, read_scan, stem, write_scan
from .inspection import DatasetSummary, inspect_cases
from .listing import Listing, PassedOver, list_dataset, load_cases
from .medmnist import pack_archive, unpack_archive
from .scan import Scan, voxel_digest
