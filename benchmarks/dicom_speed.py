# SPDX-License-Identifier: Apache-2.0
"""Reading and writing DICOM against pydicom alone: a series, and an enhanced file of several times its slices.

    python benchmarks/dicom_speed.py SERIES [--times 6] [--repeat 5]

The enhanced file is made by highdicom. Times are those of the processor, the least of several, which others on the
machine disturb least; ``wall`` is the least time that passed, syncing to disk included, which pydicom does not do.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom
import numpy as np
import pydicom
from pydicom.uid import generate_uid

from monai_unlearnable.data import read_scan, write_scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as work:
        enhanced = write_enhanced(arguments.series, Path(work, "enhanced.dcm"), arguments.times)
        for path in (arguments.series, enhanced):
            size = sum(file.stat().st_size for file in files_of(path)) / 2**20
            sys.stdout.write(f"{path.name}: {len(files_of(path))} files, {size:.0f} MiB\n")
            runs = [[measured(run, path, Path(work)) for run in (by_pydicom, own)] for _ in range(arguments.repeat)]
            for index, kind in enumerate(("processor", "wall")):
                theirs, ours = (min(run[which][index] for run in runs) for which in (0, 1))
                sys.stdout.write(f"  {kind:9}  pydicom {theirs:.2f} s, own {ours:.2f} s: {ours / theirs:.2f}\n")


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir()) if path.is_dir() else [path]


def write_enhanced(series: Path, path: Path, times: int) -> Path:
    """A legacy converted enhanced file of a series, whose slices follow each other several times."""
    sources = [pydicom.dcmread(file) for file in files_of(series)]
    thickness = float(sources[0].get("SpacingBetweenSlices") or sources[0].SliceThickness)
    copies = []
    for turn in range(times):
        for source in sources:
            copies.append(copy.deepcopy(source))
            copies[-1].SOPInstanceUID = generate_uid()
            position = np.asarray(source.ImagePositionPatient, float)
            position[2] += turn * len(sources) * thickness
            copies[-1].ImagePositionPatient = position.round(4).tolist()
    legacy = highdicom.legacy
    kinds = {"CT": legacy.LegacyConvertedEnhancedCTImage, "MR": legacy.LegacyConvertedEnhancedMRImage}
    kinds[sources[0].Modality](copies, generate_uid(), 1, generate_uid(), 1).save_as(path)
    return path


def measured(function: Callable[[Path, Path], None], path: Path, work: Path) -> tuple[float, float]:
    """Seconds of the processor, and that passed."""
    start = time.process_time(), time.perf_counter()
    function(path, work)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def by_pydicom(path: Path, work: Path) -> None:
    (work / "theirs").mkdir(exist_ok=True)
    for file in files_of(path):
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (dataset.pixel_array ^ 1).tobytes()
        dataset.save_as(work / "theirs" / file.name)


def own(path: Path, work: Path) -> None:
    scan = read_scan(path)
    write_scan(scan, scan.voxels ^ scan.voxels.dtype.type(1), work / "own" / path.name)


if __name__ == "__main__":
    main()
