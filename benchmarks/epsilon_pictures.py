# SPDX-License-Identifier: Apache-2.0
"""What an epsilon looks like on simulated scans of four kinds, protected with ``lattice``, whole and enlarged.

CT in Hounsfield units with a fixed window, MR, X-ray and ultrasound as pictures of 8 bits, each with the noise that
such scans have. The pattern takes the whole budget at every voxel of the region: noise of no method is larger.

    python benchmarks/epsilon_pictures.py docs/images/epsilon.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

import monai_unlearnable as mu

EPSILONS = (4, 8, 14, 32)  # of 255
SIDE, SLICES, CLOSE = 176, 4, 28  # pixels of a slice, slices of a volume, pixels along the enlarged part
PICTURE = (0, 255)  # gray levels that are shown
CT_WINDOW = (-160, 240)  # Hounsfield units
CT_SETTING = {"_target_": "FixedWindow", "low": CT_WINDOW[0], "high": CT_WINDOW[1]}


def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> NDArray:
    """An ellipse (x, y) with soft borders; coordinates from -1 to 1."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, SIDE)], indexing="ij")
    inside = 1 - np.hypot((x - center[0]) / radii[0], (y - center[1]) / radii[1])
    return np.asarray(np.clip(inside * min(radii) * SIDE / 4 + 0.5, 0, 1))


ORGAN = ellipse((-0.32, 0.12), (0.38, 0.42))


def layered(ground: float, *tissues: tuple[NDArray, float]) -> NDArray:
    """Tissues, each over those before."""
    image = np.full((SIDE, SIDE), float(ground))
    for shape, value in tissues:
        image += shape * (value - image)
    return image


def abdomen(air: float, fat: float, muscle: float, organ: float, bone: float) -> NDArray:
    """A section of an abdomen in the intensities of a modality."""
    body, wall = ellipse((0, 0), (0.92, 0.76)), ellipse((0, 0), (0.84, 0.68))
    other, spine = ellipse((0.42, 0.15), (0.25, 0.3)), ellipse((0, -0.42), (0.13, 0.12))
    return layered(air, (body, fat), (wall, muscle), (ORGAN, organ), (other, organ), (spine, bone))


def ct(rng: Generator) -> NDArray:
    """Hounsfield units with the grainy noise of a reconstruction, 12 HU."""
    noise = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 0.7)
    return np.asarray((abdomen(-1000, -100, 55, 65, 500) + 12 * noise / noise.std()).round())


def mr(rng: Generator) -> NDArray:
    """Magnitudes with the noise of two channels, a thirtieth of the brightest tissue."""
    signal = abdomen(0, 0.9, 0.35, 0.5, 0.25) * ellipse((0, 0.6), (2.4, 2.4))
    real, imaginary = 0.03 * rng.normal(size=(2, SIDE, SIDE))
    return np.asarray((1000 * np.hypot(signal + real, imaginary)).round())


def xray(rng: Generator) -> NDArray:
    """A chest with ribs, in gray levels with a noise of 1.5."""
    lungs = [(ellipse((side, 0.05), (0.33, 0.6)), 60.0) for side in (-0.45, 0.45)]
    image = layered(235, (ellipse((0, 0), (0.98, 1.2)), 190), *lungs, (ellipse((0.14, -0.2), (0.3, 0.36)), 170))
    for height in np.linspace(-0.6, 0.6, 7):
        image += 22 * np.maximum(0, ellipse((0, height), (0.85, 0.2)) - ellipse((0, height - 0.05), (0.82, 0.2)))
    return np.clip(gaussian_filter(image, 1.5) + 1.5 * rng.normal(size=image.shape), *PICTURE).round()


def ultrasound(rng: Generator) -> NDArray:
    """Speckle that is finer along the beam, logarithmically compressed to 50 dB."""
    bright, dark = ellipse((0.5, -0.1), (0.3, 0.2)), ellipse((0.2, 0.6), (0.15, 0.1))
    echo = layered(0.3, (ORGAN, 0.12), (bright, 0.6), (dark, 0.02))
    speckle = gaussian_filter(rng.normal(size=(2, SIDE, SIDE)), (0, 1.6, 0.8))
    envelope = 0.35 * echo * np.hypot(*speckle / speckle.std())
    return np.asarray((255 * np.clip(1 + 20 * np.log10(np.maximum(envelope, 1e-6)) / 50, 0, 1)).round())


@dataclass(frozen=True)
class Kind:
    """A kind of scan.

    Args:
        name: name in words.
        draw: function that draws a slice.
        region: what is labeled (x, y).
        window: window that is shown; by default percentiles of the scan.
        settings: settings of the protection.
        is_picture: whether it is a picture of 8 bits.
    """

    name: str
    draw: Callable[[Generator], NDArray]
    region: NDArray
    window: tuple[float, float] | None = None
    settings: dict[str, Any] | None = None
    is_picture: bool = False


KINDS = (
    Kind("CT, -160 to 240 HU", ct, ORGAN, CT_WINDOW, {"window": CT_SETTING}),
    Kind("MR", mr, ORGAN),
    Kind("X-ray, 8 bits", xray, ellipse((-0.45, 0.05), (0.3, 0.56)), PICTURE, is_picture=True),
    Kind("ultrasound, 8 bits", ultrasound, ORGAN, PICTURE, is_picture=True),
)


def write(kind: Kind, folder: Path) -> None:
    """A dataset of one scan."""
    rng, label = np.random.default_rng(0), (kind.region > 0.5).astype(np.uint8)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    if kind.is_picture:
        Image.fromarray(kind.draw(rng).astype(np.uint8).T).save(folder / "images" / "scan.png")
        Image.fromarray(label.T).save(folder / "labels" / "scan.png")
        return
    volume = np.stack([kind.draw(rng) for _ in range(SLICES)], axis=-1).astype(np.int16)
    for name, voxels in (("images", volume), ("labels", np.repeat(label[..., None], SLICES, axis=-1))):
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / name / "scan.nii.gz")


def middle(folder: Path) -> NDArray:
    """The slice (x, y) in the middle of the one scan of a folder, or its picture."""
    file = next((folder / "images").iterdir())
    if file.suffix == ".png":
        return np.asarray(Image.open(file), float).T
    voxels = np.asarray(nib.load(file).dataobj, float)
    return voxels[:, :, voxels.shape[2] // 2]


def slices(kind: Kind, folder: Path) -> list[NDArray]:
    """The original, and the same at each epsilon."""
    write(kind, folder / "clean")
    found = [middle(folder / "clean")]
    for epsilon in EPSILONS:
        out = folder / str(epsilon)
        mu.protect("lattice", folder / "clean", out, epsilon=epsilon / 255, **(kind.settings or {}))
        found.append(middle(out / "protected"))
    return found


def draw(figure: Any, kind: Kind, planes: list[NDArray], is_first: bool) -> None:
    """Two rows of pictures: the whole slice, and the part in the middle of the region."""
    low, high = kind.window or np.percentile(planes[0], (0.5, 99.5))
    center = np.argwhere(kind.region > 0.5).mean(axis=0).round().astype(int)
    part = tuple(slice(place - CLOSE // 2, place + CLOSE // 2) for place in center)
    axes = figure.subplots(2, len(planes))
    figure.suptitle(kind.name, fontsize=10, x=0.01, ha="left")
    for column, (plane, name) in enumerate(zip(planes, ("original", *(f"{k}/255" for k in EPSILONS)), strict=True)):
        axes[0, column].set_title(name if is_first else "", fontsize=10)
        for row, shown in enumerate((plane, plane[part])):
            axes[row, column].imshow(shown.T[::-1], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes[row, column].set_axis_off()


def main() -> None:
    """Protect a scan of each kind at each epsilon, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    figure = Figure(figsize=(2 * (1 + len(EPSILONS)), 4.4 * len(KINDS)), layout="constrained")
    for number, part in enumerate(figure.subfigures(len(KINDS), 1)):
        with tempfile.TemporaryDirectory() as folder:
            draw(part, KINDS[number], slices(KINDS[number], Path(folder)), number == 0)
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
