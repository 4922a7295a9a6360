# SPDX-License-Identifier: Apache-2.0
"""The test files that pydicom brings, read, changed, written and restored: how many, and why the others are refused.

    python benchmarks/bundled_dicom.py [FOLDER] [--all]

Every file below the folder is looked at by itself, and every folder as what its files make up. A file counts as done if
its original comes back byte for byte from what was written. With ``--all`` each file is listed.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom

from monai_unlearnable.data import read_scan, write_scan
from monai_unlearnable.data.dicom import is_dicom, survey
from monai_unlearnable.data.formats import original_headers, with_headers
from monai_unlearnable.errors import UnlearnableError

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=BUNDLED)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of pydicom, on what its files are made to show
    outcomes: Counter[str] = Counter()
    for kind, path, reason in scans(arguments.folder):
        outcome = f"{kind}: {reason or outcome_of(path)}"
        outcomes[re.sub(r"\d+(\.\d+)?", "N", outcome)] += 1
        if arguments.all:
            sys.stdout.write(f"{path.relative_to(arguments.folder)}\t{outcome}\n")
    for outcome, count in sorted(outcomes.items(), key=lambda item: (-item[1], item[0])):
        sys.stdout.write(f"{count:4}  {outcome}\n")
    return any("TRACEBACK" in outcome or "LATE" in outcome for outcome in outcomes)


def scans(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Files by themselves, and the volumes of each folder; with a reason where the folder passes a file over."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and is_dicom(path):
            yield "file", path, ""
    for path in sorted({file.parent for file in folder.rglob("*") if file.is_file()}):
        found = survey(path)
        yield from (("volume", volume.path, "") for volume in found.volumes if len(volume.files) > 1)
        yield from (("in a folder", file, f"passed over, {reason}") for file, reason in found.passed_over)


def outcome_of(path: Path) -> str:
    """What became of a scan."""
    with TemporaryDirectory() as work:
        try:
            scan = read_scan(path)
        except UnlearnableError as error:
            return f"refused, {error.reason}"
        except Exception:
            return f"TRACEBACK {traceback.format_exc()}"
        try:
            low, high = scan.quantization.bounds
            noise = np.random.default_rng(0).integers(-3, 4, scan.voxels.shape)
            voxels = np.clip(scan.voxels + noise, low, high).astype(scan.voxels.dtype)
            write_scan(scan, voxels, Path(work, "protected", path.name))
            protected = read_scan(Path(work, "protected", path.name))
            if not np.array_equal(protected.voxels, voxels) or protected.quantization != scan.quantization:
                return "LATE: other voxels or another storage come back"
            write_scan(with_headers(protected, original_headers(scan)), scan.voxels, Path(work, "back", path.name))
            return "done" if same(scan.container.names, path, Path(work, "back", path.name)) else "LATE: other bytes"
        except Exception:
            return f"LATE: {traceback.format_exc()}"


def same(names: tuple[str, ...], original: Path, back: Path) -> bool:
    """Whether all files of a scan came back."""
    if original.is_file():
        return original.read_bytes() == back.read_bytes()
    folder = original if original.is_dir() else original.parent
    return all((folder / name).read_bytes() == (back / name).read_bytes() for name in names)


if __name__ == "__main__":
    sys.exit(main())
