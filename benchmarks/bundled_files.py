# SPDX-License-Identifier: Apache-2.0
"""The test files that nibabel brings, read, written with other voxels, and restored: how many, and what is refused why.

A file is done if it comes back byte for byte, or, where it is compressed, with the same content. An error that is none
of this package's own ends the run with its traceback.

    python benchmarks/bundled_files.py WORK [FOLDER ...]
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from rich.console import Console

from monai_unlearnable.budget import Budget, apply_noise, undo_change
from monai_unlearnable.data import output_name, read_scan, write_scan
from monai_unlearnable.data.dicom import is_dicom
from monai_unlearnable.data.formats import files_of, is_known, original_headers, with_headers
from monai_unlearnable.errors import UnlearnableError
from monai_unlearnable.intensity import AutoWindow

EPSILON = 0.05


def treat(path: Path, work: Path) -> None:
    """Protect a scan and restore it.

    Raises:
        UnlearnableError: when it is refused.
        AssertionError: when it does not come back.
    """
    scan = read_scan(path)
    window = scan.window(AutoWindow())
    noise = np.random.default_rng(0).uniform(-EPSILON, EPSILON, scan.voxels.shape)
    voxels, change = apply_noise(
        scan.voxels, noise, budget=Budget(EPSILON), window=window, quantization=scan.quantization
    )
    target, back = (work / folder / output_name(path.name) for folder in ("protected", "restored"))
    write_scan(scan, voxels, target)
    protected = read_scan(target)
    assert protected.digest() != scan.digest(), "nothing changed"
    original = with_headers(protected, original_headers(scan))
    write_scan(original, undo_change(protected.voxels, change), back)
    if output_name(path.name) == path.name:
        for first, second in zip(files_of(path), files_of(back), strict=True):
            assert content(first) == content(second), f"{second} is not the original"


def content(path: Path) -> bytes:
    """The bytes of a file, decompressed."""
    found = path.read_bytes()
    return gzip.decompress(found) if found[:2] == b"\x1f\x8b" else found


def main() -> None:
    """Print the counts, and every refusal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder to write to")
    parser.add_argument("folders", type=Path, nargs="*", help="folders of files; by default those of nibabel")
    options = parser.parse_args()
    folders = options.folders or sorted(Path(nibabel.__file__).parent.glob("**/tests/data"))
    counts: Counter[str] = Counter()
    console = Console(width=160)
    for path in sorted(path for folder in folders for path in folder.iterdir() if path.is_file()):
        if not (is_known(path.name) or is_dicom(path)):
            counts["no scan, by name and content"] += 1
            continue
        try:
            treat(path, options.work / re.sub(r"\W", "_", str(path.parent)[-40:]))
            counts["done"] += 1
        except UnlearnableError as error:
            counts[f"refused: {error.reason[:90]}"] += 1
            console.print(f"{path.name}: {error.reason}", markup=False)
    for what, count in counts.most_common():
        console.print(f"{count:4} {what}", markup=False)


if __name__ == "__main__":
    main()
