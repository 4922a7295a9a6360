# SPDX-License-Identifier: Apache-2.0
"""Which files of the package work on the way from a dataset's folder to the written voxel, training included.

python benchmarks/files_on_the_way.py DATASET OUT [--method umed] [settings of the bundle: --epochs 1 ...]

Protects a dataset and counts the modules in which a function was called, and the bundle's configuration: what a reader
opens who follows a scan through the program. Imports do not count.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import monai_unlearnable
from monai_unlearnable.__main__ import main as run_command

PACKAGE = Path(monai_unlearnable.__file__).parent
# Helpers that know nothing of scans or noise, encryption and other formats than NIfTI; of earlier layouts too.
HELPERS = re.compile(
    r"(utils|crypto|commands|data/dicom|scans/dicom)/|"
    r"(arrays|catalog|config|errors|keys|processes|progress|seeding)\.py|"
    r"noise/vault|scans/(atomic|reading)|(workflows|publishing)/archives|workflows/locking"
)


def record(called: set[str], frame: FrameType, event: str, argument: Any) -> None:
    """Note the module of a function of the package that is called; the bodies of modules and classes are none."""
    if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            called.add(path.relative_to(PACKAGE).as_posix())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("out")
    parser.add_argument("--method", default="umed")
    arguments, settings = parser.parse_known_args()
    called: set[str] = set()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        record(called, frame, event, argument)

    threading.setprofile(profile)
    sys.setprofile(profile)
    code = run_command(["protect", arguments.method, arguments.dataset, arguments.out, *settings])
    sys.setprofile(None)
    threading.setprofile(None)
    console = Console(width=120)
    files = sorted(name for name in called if name != "__init__.py")
    console.print(*files, sep="\n")
    read = [name for name in files if not HELPERS.match(name)]
    console.print(
        f"{len(files)} modules, {len(read)} without helpers, and the bundle's configuration; exit code {code}"
    )


if __name__ == "__main__":
    main()
