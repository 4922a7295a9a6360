# SPDX-License-Identifier: Apache-2.0
"""The working directory may hold what it likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import monai_unlearnable


def test_a_folder_called_dl_does_not_stop_the_program(tmp_path: Path) -> None:
    """``python -m`` looks for modules in the working directory, and gdcm for one called ``dl``."""
    (tmp_path / "dl").mkdir()
    code = (
        "import sys; sys.path[0] = ''; sys.path.append(sys.argv[1])\nimport monai_unlearnable.data, pydicom, gdcm, dl"
    )
    package = str(Path(monai_unlearnable.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code, package], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
