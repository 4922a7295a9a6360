# SPDX-License-Identifier: Apache-2.0
"""Data and runs for trying the package without patients."""
