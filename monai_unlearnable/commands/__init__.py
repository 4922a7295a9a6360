# SPDX-License-Identifier: Apache-2.0
"""What the words of the command line do; each module adds its own to the parser."""
