# SPDX-License-Identifier: Apache-2.0
"""The laboratory: what models learn from folders of scans."""
