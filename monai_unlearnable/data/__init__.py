# SPDX-License-Identifier: Apache-2.0
"""Datasets of scans: found, read and written without loss."""

from .cases import LoadedCase, check_alike, read_case
from .formats import find_format, output_name, read_scan, stem, write_scan
from .grids import RAS, Crop, Grid, median_spacing, nnunet_spacing, spatial_affine
from .inspection import check_tasks, inspect_cases, match_classes
from .labels import LabelGeometry, encode_label, read_label
from .listing import Case, Listing, PassedOver, list_dataset, load_cases
from .medmnist import pack_archive, unpack_archive
from .scan import Scan, voxel_digest
from .summary import DatasetSummary, patch_size
