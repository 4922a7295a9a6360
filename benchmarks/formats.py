# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of full-size scans in each format, against the libraries of these formats alone.

CPU time is compared, the least of some rounds, since other work may share the machine. A library reads the voxels as an
array, and writes them with the geometry that it read; this package reads, checks and writes the same file.

    python -m benchmarks.formats DATA/fullsize WORK [--rounds 3]      # in a checkout, whose tests write enhanced DICOM
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from rich.console import Console
from rich.table import Table

from monai_unlearnable.data import read_scan, write_scan
from tests.dicom import write_enhanced

BAR = 1.3


def by_sitk(source: Path, target: Path) -> None:
    """Read and write with SimpleITK."""
    image = sitk.ReadImage(str(source))
    written = sitk.GetImageFromArray(sitk.GetArrayFromImage(image))
    written.CopyInformation(image)
    sitk.WriteImage(written, str(target), is_packed(source))


def by_nibabel(source: Path, target: Path) -> None:
    """Read and write with nibabel."""
    image = nib.load(source)
    voxels = np.asanyarray(image.dataobj)
    nib.save(type(image)(voxels, image.affine, image.header), target)


def by_nrrd(source: Path, target: Path) -> None:
    """Read and write with pynrrd, at its fastest compression."""
    voxels, header = nrrd.read(str(source))
    nrrd.write(str(target), voxels, header, compression_level=1)


def by_package(source: Path, target: Path, voxels: NDArray) -> None:
    """Read, and write other voxels, with this package."""
    write_scan(read_scan(source), voxels, target)


def changed(source: Path) -> NDArray:
    """Voxels of which one is another: DICOM without a change is written as it was."""
    voxels = read_scan(source).voxels.copy(order="K")
    voxels[(0,) * voxels.ndim] += 1
    return voxels


def by_pydicom(source: Path, target: Path) -> None:
    """Read and write with pydicom."""
    dataset = dcmread(source)
    dataset.PixelData = dataset.pixel_array.tobytes()
    dataset.save_as(target)


def is_packed(path: Path) -> bool:
    """Whether a converted file is compressed."""
    return "packed" in path.name


# Converted files, and the libraries that read and write them.
FORMATS: dict[str, tuple[Callable[[Path, Path], None], ...]] = {
    "raw.mha": (by_sitk,),
    "packed.mha": (by_sitk,),
    "raw.mhd": (by_sitk,),
    "raw.nrrd": (by_sitk, by_nrrd),
    "packed.nrrd": (by_sitk, by_nrrd),
    "raw.nii": (by_nibabel, by_sitk),
    "packed.nii.gz": (by_nibabel, by_sitk),
    "raw.mgh": (by_nibabel,),
    "packed.mgz": (by_nibabel,),
    "raw.hdr": (by_nibabel,),
    "enhanced.dcm": (by_pydicom,),
}


def convert(scan: Path, folder: Path) -> list[Path]:
    """The scan in each format."""
    image, volume, found = sitk.ReadImage(str(scan)), nib.load(scan), []
    for name in FORMATS:
        path = folder / f"{scan.name.partition('.')[0]}-{name}"
        found.append(path)
        if name.endswith((".mgh", ".mgz")):
            nib.MGHImage(np.asanyarray(volume.dataobj), volume.affine).to_filename(path)
        elif name.endswith(".dcm"):
            write_enhanced(path, np.asanyarray(volume.dataobj).T)
        elif name.endswith(".hdr"):
            nib.Nifti1Pair(np.asanyarray(volume.dataobj), volume.affine).to_filename(path)
        else:
            sitk.WriteImage(image, str(path), is_packed(path))
    return found


def seconds(work: Callable[[Path, Path], None], source: Path, folder: Path, rounds: int) -> float:
    """CPU time of reading and writing, the least of some rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work(source, folder / source.name)
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print a row for each scan and format; exit 1 if one takes longer than the bar allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with scans in NIfTI")
    parser.add_argument("work", type=Path, help="folder for the converted scans")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    table, slow = Table("scan", "MB", "library", "library, s", "package, s", "ratio"), 0
    for scan in sorted(options.data.glob("*.nii.gz")):
        for path in convert(scan, options.work):
            libraries = FORMATS[path.name.partition("-")[2]]
            work, own_work = options.work / "other", partial(by_package, voxels=changed(path))
            times = {library.__name__[3:]: seconds(library, path, work, options.rounds) for library in libraries}
            best = min(times, key=times.__getitem__)
            own = seconds(own_work, path, options.work / "own", options.rounds)
            slow += own > BAR * times[best]
            size = f"{path.stat().st_size / 1e6:.0f}"
            table.add_row(path.name, size, best, f"{times[best]:.2f}", f"{own:.2f}", f"{own / times[best]:.2f}")
    Console(width=110).print(table)
    raise SystemExit(bool(slow))


if __name__ == "__main__":
    main()
