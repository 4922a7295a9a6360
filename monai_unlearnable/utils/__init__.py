# SPDX-License-Identifier: Apache-2.0
"""Helpers without knowledge of scans: files, locks, configuration, seeds, processes, progress, arrays."""
