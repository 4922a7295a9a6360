# SPDX-License-Identifier: Apache-2.0
"""From a dataset to its protected files and back: protect, verify, audit, describe, restore."""
