# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_unlearnable``, the same as the command ``monai-unlearnable``."""

import sys

from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, main

__all__ = ["CHECK_FAILED", "WRONG_INPUT", "main"]

if __name__ == "__main__":
    sys.exit(main())
