# SPDX-License-Identifier: Apache-2.0
"""What models learn from folders of scans: the laboratory."""
