# SPDX-License-Identifier: Apache-2.0
"""File formats of scans: a reader and writer each, which change voxels and nothing else; found by name and content."""

from .registry import (
    content_of,
    data_files,
    digest_of,
    files_of,
    find_format,
    is_known,
    original_headers,
    output_name,
    read_label_scan,
    read_scan,
    renamed_by,
    stem,
    voxel_files,
    with_headers,
    write_scan,
)
