# SPDX-License-Identifier: Apache-2.0
"""Do two checkouts protect the same datasets with the same bytes?

For changes of the code that must not change what it publishes. Both checkouts protect small datasets with every method,
on the CPU, with one thread and the seed of the settings. Compared are all files of ``protected/``, and what each
checkout restores from its own output; that has to hold the voxels of the dataset as well. Each command runs as
``python -m`` does it, in a process of its own, which finds libraries imported already, but nothing of a checkout.

    python benchmarks/same_bytes.py BASE_TREE NEW_TREE WORK [--only NAME ...] [--base-only]

Names may have wildcards (``--only 'umed*' '*_series'``). What the base gives is kept in ``WORK/base`` and made anew
only when its code, the dataset or the commands have changed; what the new tree gave last stays in ``WORK/new``.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import hashlib
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RLELossless
from rich.console import Console

# What the new tree calls otherwise than the base: settings by their old names, or by "salm fraction" where that is so
# for one method alone, or "evaluate iterations"; and files of an output, as they are named below.
RENAMED: dict[str, str] = {
    "looks": "num_validations",
    "spared": "unperturbed",
    "view#blur": "augmentation#blur",
    "view#mirror": "augmentation#flip",
    "view#noise": "augmentation#noise",
    "view#rotation": "augmentation#rotation",
    "view#scaling": "augmentation#scaling",
}
# New values by the name of their setting as above and the old value, as on the command line; "method" is the word after
# "protect".
VALUES: dict[str, dict[str, str]] = {}

CHECKPOINT, NOISE, CONTROL = "models/perturber.safetensors", "noise", "laboratory/control"
APPLIED = {"from_checkpoint": CHECKPOINT, "from_noise": NOISE}  # outputs of the word apply, and what it is given

Settings = Mapping[str, Any]
GENERATOR: Settings = {"epochs": 2, "epoch_length": 3, "batch_size": 2, "network_def#channels": [4, 8, 8, 8]} | {
    "learning_rate": 0.03  # so high that a few steps change what is published
}
SURROGATE: Settings = {"epochs": 2, "epoch_length": 3, "batch_size": 2, "network_def#width": 4, "steps": 3}
AHEAD: Settings = {"epochs": 2, "epoch_length": 3, "horizon": 3, "advance": 2, "cases_per_step": 1} | {
    "network_def#width": 4,
    "epsilon": 0.06,
    "learning_rate": 0.015,
}
RANDOM_VIEW: Settings = {"view#mirror": True, "view#noise": 0.1, "view#rotation": 20, "view#scaling": 0.2}
FREE: Settings = {"view#blur": 1.0, "carrier_axis": None, "masks#support#margin": 1}
EXAMINE: Settings = {"iterations": 1, "looks": 1, "width": 4, "originals": False}  # no more than the control takes
FIXED = {"_target_": "monai_unlearnable.intensity.FixedWindow", "low": -900, "high": 800}
SPARSE = {"_target_": "monai_unlearnable.masks.Sparsity", "fraction": 0.1}

MAPS, CLASSES = ("volumes", "pictures"), ("classes",)
EVERY, BOTH = MAPS + CLASSES, ("volumes", "classes")


@dataclass(frozen=True)
class Row:
    """A line of the table: one method with one set of settings, on some of the datasets.

    Args:
        name: of the line; a case is called by it and its dataset.
        method: the word after ``protect``.
        settings: in the words of the base.
        datasets: names among :data:`DATASETS`.
        outputs: what is made besides: some of :data:`APPLIED`, or :data:`CONTROL`.
        with_key: whether the owner's key is given.
    """

    name: str
    method: str
    settings: Settings
    datasets: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    with_key: bool = False


TABLE = (
    Row("umed", "umed", GENERATOR, ("volumes",), (*APPLIED, CONTROL)),
    Row("umed", "umed", GENERATOR, ("pictures", "series", "floats", "modalities"), tuple(APPLIED)),
    Row("umed-free", "umed", {**GENERATOR, **RANDOM_VIEW, **FREE}, MAPS),
    Row("voxshield", "voxshield", GENERATOR, MAPS),
    Row("foresight", "foresight", AHEAD, EVERY, tuple(APPLIED)),
    Row("foresight-mirror", "foresight", {**AHEAD, "recipe": "mirror"}, EVERY),
    Row("foresight-nnunet", "foresight", {**AHEAD, "recipe": "nnunet"}, EVERY),
    Row("error-minimizing", "error_minimizing", SURROGATE, (*EVERY, "series", "modalities")),
    Row("error-minimizing-view", "error_minimizing", {**SURROGATE, **RANDOM_VIEW, "samples": 2}, BOTH),
    Row("error-minimizing-sparse", "error_minimizing", {**SURROGATE, "sparsity": SPARSE}, CLASSES),
    Row("error-minimizing-class", "error_minimizing_class", SURROGATE, (*EVERY, "volume-classes")),
    Row("error-minimizing-universal", "error_minimizing", {**SURROGATE, "granularity": "universal"}, BOTH),
    Row("error-maximizing", "error_maximizing", SURROGATE, EVERY),
    Row("error-maximizing-class", "error_maximizing", {**SURROGATE, "granularity": "class"}, BOTH),
    Row("error-maximizing-untargeted", "error_maximizing_untargeted", SURROGATE, EVERY),
    Row("lsp", "lsp", {}, (*EVERY, "archive")),
    Row("ar", "ar", {}, EVERY),
    Row("cuda", "cuda", {}, EVERY),
    Row("ops", "ops", {}, EVERY),
    Row("lattice", "lattice", {}, (*EVERY, "series", "floats", "modalities", "volume-classes")),
    Row("lattice-window", "lattice", {"window": FIXED}, ("series",)),
    Row("linear", "linear", {}, (*CLASSES, "colors")),
    Row("lsp-universal", "lsp", {"granularity": "universal", "spared": "none"}, BOTH),
    Row("cuda-universal", "cuda", {"granularity": "universal"}, BOTH),
    Row("salm", "salm", SURROGATE, ("volumes",), (*APPLIED, CONTROL)),
    Row("salm", "salm", SURROGATE, ("pictures", "classes"), tuple(APPLIED)),
    Row("salm-blocks", "salm", {**SURROGATE, "fraction": 0.03, "patch": 4, "mask_refresh": "step", "of": "all"}, EVERY),
    Row("salm-random", "salm", {**SURROGATE, "score": "random", "mask_refresh": "once", "fitted": 0.9}, EVERY),
    Row("salm-element", "salm", {**SURROGATE, "per": "element", "score": "gradient_times_input"}, ("colors",)),
    Row("key-umed", "umed", GENERATOR, ("volumes",), tuple(APPLIED), with_key=True),
    Row("key-salm", "salm", SURROGATE, CLASSES, tuple(APPLIED), with_key=True),
    Row("key-lsp", "lsp", {}, ("archive",), with_key=True),
)


@dataclass(frozen=True)
class Case:
    """A line of the table on one of its datasets."""

    row: Row
    dataset: str

    @property
    def name(self) -> str:
        return f"{self.row.name}_{self.dataset}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """All of its outputs; that of the control lies within the first."""
        return ("out", *(f"out/{name}" if name == CONTROL else name for name in self.row.outputs))


CASES = [Case(row, dataset) for row in TABLE for dataset in row.datasets]


# Datasets: made by hand, so that they stay the same whatever the trees do.


def textured(shape: Sequence[int], seed: int, low: float, high: float) -> tuple[NDArray, NDArray]:
    """Noise on a ramp with a bright ellipsoid, as floats from low to high; and its two halves as a label map."""
    axes = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in shape], indexing="ij")
    rng = np.random.default_rng(seed)
    center = rng.uniform(-0.2, 0.2, len(shape))
    inside = sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True)) < 0.35
    image = 0.2 + 0.15 * axes[0] + 0.3 * inside + rng.uniform(0, 0.3, shape)
    return low + (high - low) * image.clip(0, 1), (inside * (1 + (axes[-1] > center[-1]))).astype(np.uint8)


def write_nifti(path: Path, voxels: NDArray, affine: NDArray | None = None) -> None:
    """Compressed if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    oblique = np.array([[0.9, 0.1, -0.2, -31], [-0.1, 1.1, 0.05, 12.5], [0.2, 0.0, 2.0, 7], [0, 0, 0, 1]])
    content = nib.Nifti1Image(voxels, oblique if affine is None else affine).to_bytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_png(path: Path, voxels: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(voxels).save(path)


def volumes(root: Path, dtype: str = "int16", low: float = -500, high: float = 900) -> None:
    for seed, shape in enumerate([(24, 20, 16), (24, 20, 16), (21, 26, 13)]):
        image, label = textured(shape, seed, low, high)
        write_nifti(root / "images" / f"{seed}.nii.gz", image.astype(dtype))
        write_nifti(root / "labels" / f"{seed}.nii.gz", label)


def floats(root: Path) -> None:
    volumes(root, "float32", -1.5, 3.5)


def pictures(root: Path) -> None:
    for seed, shape in enumerate([(40, 36), (40, 36), (33, 45)]):
        image, label = textured(shape, seed, 10, 240)
        write_png(root / "images" / f"{seed}.png", image.astype(np.uint8))
        write_png(root / "labels" / f"{seed}.png", label)


def modalities(root: Path) -> None:
    """Two images a case, in a datalist."""
    listed = []
    for case in range(2):
        names = [f"images/{case}_{channel}.nii" for channel in range(2)]
        for channel, name in enumerate(names):
            image, label = textured((20, 24, 16), case, 0, 1000 * (channel + 1))
            write_nifti(root / name, image.astype("uint16"))
        write_nifti(root / "labels" / f"{case}.nii.gz", label)
        listed.append({"image": names, "label": f"labels/{case}.nii.gz"})
    (root / "datalist.json").write_text(json.dumps({"training": listed}))


def of_classes(shape: Sequence[int]) -> Iterator[tuple[str, NDArray]]:
    """Ten uint8 images of three classes, later ones with a darker first half, by the names of their files."""
    for seed in range(10):
        kind, (image, _) = seed % 3, textured(shape, seed, 10, 240)
        image[: shape[0] // 2] *= 1 - 0.3 * kind
        yield f"{'abc'[kind]}/{seed}", image.astype(np.uint8)


def classes(root: Path) -> None:
    for name, image in of_classes((32, 28)):
        write_png(root / f"{name}.png", image)


def colors(root: Path) -> None:
    for name, image in of_classes((32, 28)):
        write_png(root / f"{name}.png", np.stack([image, 255 - image, image // 2], -1))


def volume_classes(root: Path) -> None:
    for name, image in of_classes((16, 20, 12)):
        write_nifti(root / f"{name}.nii.gz", image.astype("int16") * 5)


def archive(root: Path) -> None:
    """A MedMNIST archive."""
    images = np.stack([image for _, image in of_classes((28, 28))])
    labels = (np.arange(10) % 3).astype(np.uint8)[:, None]
    parts = {"train": slice(0, 7), "val": slice(7, 8), "test": slice(8, 10)}
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    arrays |= {f"{name}_labels": labels[part] for name, part in parts.items()}
    root.mkdir(parents=True)
    np.savez_compressed(root / "small.npz", allow_pickle=False, **arrays)


SPACING, ORIGIN = (0.8, 0.7, 2.5), (-31.0, 12.5, 7.25)
TAKEN_OVER = (  # by segmentations
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)


def ct_slice(pixels: NDArray, series: str, number: int) -> FileDataset:
    """A slice of a CT; stored numbers are Hounsfield units and 1024."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion, meta.ImplementationClassUID = b"\0\1", UID("1.2.3.4")
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, UID(f"{series}.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    ds.Modality, ds.ImageType, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], number
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", series, "1.2.3.3"
    ds.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + SPACING[2] * number]
    ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING[1], SPACING[0]]
    ds.SliceThickness, ds.RescaleIntercept, ds.RescaleSlope = SPACING[2], -1024, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    for name in TAKEN_OVER:
        setattr(ds, name, "")
    ds.PixelData = pixels.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def segmentation(slices: Sequence[FileDataset], label: NDArray) -> hd.seg.Segmentation:
    """A label map (x, y, z) on the grid of a series, as a DICOM segmentation of fixed UIDs and times."""
    algorithm = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    segments = [hd.seg.SegmentDescription(n, f"{n}", codes.SCT.Tissue, codes.SCT.Liver, algorithm) for n in (1, 2)]
    made_by = ("1.2.3.7", 7, "1.2.3.8", 1, "maker", "model", "1", "0")
    seg = hd.seg.Segmentation(slices, label.transpose(2, 1, 0), "BINARY", segments, *made_by)
    fixed = {"DA": "20010203", "TM": "040506", "DT": "20010203040506"}
    for element in seg.iterall():
        if element.VR in fixed and element.value:
            element.value = fixed[element.VR]
        elif element.keyword == "DimensionOrganizationUID":
            element.value = "1.2.3.9"
    return seg


def series(root: Path) -> None:
    """Two CT series: one with its label map as NIfTI, and a compressed one with a DICOM segmentation."""
    for seed, name in enumerate("ab"):
        image, label = textured((24, 20, 12), seed, 100, 1900)
        slices = [ct_slice(image[..., k].astype(np.int16).T, f"1.2.3.2{seed}", k + 1) for k in range(image.shape[2])]
        for ds in slices:
            if name == "b":
                ds.compress(RLELossless, generate_instance_uid=False)
            path = root / "images" / name / f"{100 - ds.InstanceNumber}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            ds.save_as(path, enforce_file_format=True)
        (root / "labels").mkdir(exist_ok=True)
        if name == "b":
            segmentation(slices, label).save_as(root / "labels" / "b.dcm")
        else:
            affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
            affine[:3, 3] = (-ORIGIN[0], -ORIGIN[1], ORIGIN[2] + SPACING[2])
            write_nifti(root / "labels" / "a.nii.gz", label, affine)


DATASETS = {
    **{"volumes": volumes, "floats": floats, "pictures": pictures, "modalities": modalities, "series": series},
    **{"classes": classes, "colors": colors, "volume-classes": volume_classes, "archive": archive},
}


def voxels_of(path: Path) -> NDArray:
    """The stored numbers of an image file, by libraries that know nothing of the package."""
    if path.name.endswith((".nii", ".nii.gz")):
        return np.asarray(nib.load(path).dataobj.get_unscaled())
    return np.asarray(Image.open(path)) if path.suffix == ".png" else dcmread(path).pixel_array


def original_of(dataset: Path, name: str) -> NDArray:
    """The stored numbers of an image of a dataset, which is a folder or an archive, by the name of its file."""
    if dataset.is_dir():
        return voxels_of(dataset / name)
    split, number = Path(name).parent.name, int(Path(name).stem)
    with np.load(dataset) as arrays:
        return np.asarray(arrays[f"{split}_images"][number])


# Runs

PROCESSES = multiprocessing.get_context("forkserver")
IMPORTED = ["__main__", "torch", "ignite.engine", "monai.bundle", "monai.networks.nets", "monai.losses"]  # take long
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Tree:
    """A checkout.

    Args:
        root: its folder.
        folder: where its outputs go.
        renamed: other names of settings and files, see :data:`RENAMED`.
        values: other values, see :data:`VALUES`.
    """

    root: Path
    folder: Path
    renamed: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]

    def digest(self) -> str:
        """Of the code and the bundles."""
        found = (path for part in ("monai_unlearnable", "bundles") for path in (self.root / part).rglob("*"))
        kept = {path: path.read_bytes() for path in sorted(found) if path.is_file() and path.suffix != ".pyc"}
        return digest_of({path.relative_to(self.root).as_posix(): content for path, content in kept.items()})

    def words(self, method: str, settings: Settings) -> list[str]:
        """Settings of a method as ``--name value``, in the words of this tree."""
        found = []
        for name, value in settings.items():
            own, text = f"{method} {name}", str(value)
            found.append(f"--{self.renamed.get(own, self.renamed.get(name, name))}")
            found.append(self.values.get(own, self.values.get(name, {})).get(text, text))
        return found

    def commands(self, case: Case, dataset: Path, test: Path, key: Path) -> list[list[str]]:
        """What is run for a case, in its folder.

        Args:
            case: one of :data:`CASES`.
            dataset: its dataset.
            test: held-out cases, which are asked for where the control is made.
            key: file of the owner's key.
        """
        row, data = case.row, str(dataset)
        sealed = ["--key", str(key)] if row.with_key else []
        method = self.values.get("method", {}).get(row.method, row.method)
        made = [["protect", method, data, "out", *self.words(row.method, row.settings), *sealed]]
        for output, source in APPLIED.items():
            if output in row.outputs:
                made.append(["apply", f"out/{self.renamed.get(source, source)}", data, output, *sealed])
        if CONTROL in row.outputs:
            examine = self.words("evaluate", {**EXAMINE, "test_dir": test})
            made.append(["evaluate", "out", data, *examine, *sealed])
        for output in case.outputs:
            source = output.replace(CONTROL, self.renamed.get(CONTROL, CONTROL))
            made.append(["restore", source, restored_in(output), *sealed])
        return made

    def run(self, words: Sequence[str], folder: Path) -> str:
        """Run a command in a folder; returns the last line that it printed where it failed."""
        log = folder / "log.txt"
        process = PROCESSES.Process(target=run_package, args=(self.root.resolve(), list(words), folder, log.name))
        process.start()
        process.join()
        return f"{log.read_text().strip().splitlines()[-1]} ({log})" if process.exitcode else ""


def run_package(root: Path, words: list[str], folder: Path, log: str) -> None:
    """What ``python -m monai_unlearnable`` does with the package of a checkout. Does not return."""
    os.chdir(folder)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(stream, f"{' '.join(words)}\n".encode())
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    assert "monai_unlearnable" not in sys.modules
    sys.path.insert(0, str(root))
    package = import_module("monai_unlearnable")
    if not Path(str(package.__file__)).is_relative_to(root):
        raise SystemExit(f"{package.__file__} is not the package of {root}")
    sys.argv[1:] = words
    runpy.run_module("monai_unlearnable", run_name="__main__", alter_sys=True)


def restored_in(output: str) -> str:
    """Where an output of a case is restored."""
    return f"restored/{output.replace('/', '-')}"


def digest_of(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of every file by relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Comparison:
    """Runs of two trees on the same datasets.

    Args:
        base: what is compared with; its outputs are kept.
        new: what is compared.
        work: where datasets and outputs go.
    """

    def __init__(self, base: Path, new: Path, work: Path) -> None:
        self.base, self.new = Tree(base, work / "base", {}, {}), Tree(new, work / "new", RENAMED, VALUES)
        self.data, self.key = work / "data", work / "owner.key"
        self.base_digest = self.base.digest()
        work.mkdir(parents=True, exist_ok=True)
        if not self.key.exists() and (problem := self.base.run(["key", "new", self.key.name], work)):
            raise SystemExit(problem)

    def dataset(self, name: str) -> Path:
        """A dataset, made if it is not there: a folder, or the archive in it."""
        folder, unfinished = self.data / name, self.data / f"{name}.part"
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            DATASETS[name](unfinished)
            unfinished.rename(folder)
        return next(folder.glob("*.npz"), folder).resolve()

    def commands(self, tree: Tree, case: Case) -> list[list[str]]:
        """What is run for a case."""
        test = self.dataset("floats")  # no voxels of theirs are in the datasets that controls are made of
        return tree.commands(case, self.dataset(case.dataset), test, self.key.resolve())

    def make_base(self, case: Case) -> float:
        """Run a case in the base, unless its outputs are there; returns the seconds that it took, now or then."""
        self.dataset(case.dataset)
        given = digest_of({**files_below(self.data / case.dataset), "key": self.key.read_bytes()})
        record = {"tree": self.base_digest, "given": given, "commands": self.commands(self.base, case)}
        kept = self.base.folder / case.name / "complete.json"
        known = json.loads(kept.read_text()) if kept.exists() else {}
        if {name: known.get(name) for name in record} != record:
            known = {**record, "seconds": self.make(self.base, case)}
            kept.write_text(json.dumps(known, indent=1))
        return float(known["seconds"])

    def make(self, tree: Tree, case: Case) -> float:
        """Run a case anew; returns the seconds that it took.

        Raises:
            RuntimeError: saying how it failed.
        """
        folder, begin = tree.folder / case.name, time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for words in self.commands(tree, case):
            if problem := tree.run(words, folder):
                raise RuntimeError(f"{words[0]}: {problem}")
        return time.monotonic() - begin

    def differences(self, case: Case) -> Iterator[str]:
        """What is wrong with the outputs of a case."""
        for output in case.outputs:
            control = self.new.renamed.get(CONTROL, CONTROL)
            found = {f"{output}/protected": f"{output.replace(CONTROL, control)}/protected"}
            found[restored_in(output)] = restored_in(output)
            for old, new in found.items():
                yield from unlike(self.base.folder / case.name / old, self.new.folder / case.name / new, old)
            yield from self.not_restored(case, restored_in(output))

    def not_restored(self, case: Case, restored: str) -> Iterator[str]:
        """Images that do not come back as they are in the dataset."""
        dataset, count = self.dataset(case.dataset), 0
        for tree in (self.base, self.new):
            folder = tree.folder / case.name / restored
            for name in files_below(folder):
                if name.endswith((".json", ".npz")):
                    continue
                count += 1
                found, original = voxels_of(folder / name), original_of(dataset, name)
                if (found.dtype, found.shape, found.tobytes()) != (original.dtype, original.shape, original.tobytes()):
                    yield f"{restored}/{name} of {tree.root} is not the original"
        if not count:
            yield f"{restored} holds no images"


def unlike(base: Path, new: Path, shown: str) -> Iterator[str]:
    """The files that are not the same below two folders."""
    old_files, new_files = files_below(base), files_below(new)
    if not old_files:
        yield f"{shown} is empty in the base"
    for name in sorted({*old_files, *new_files}):
        if name not in new_files or name not in old_files:
            yield f"{shown}/{name} is only in the {'base' if name in old_files else 'new tree'}"
        elif old_files[name] != new_files[name]:
            yield f"{shown}/{name}"


def chosen(names: Sequence[str] | None) -> list[Case]:
    """The cases whose names match, all by default."""
    found = [case for case in CASES if not names or any(fnmatch.fnmatch(case.name, name) for name in names)]
    if not found:
        raise SystemExit(f"no case is called so; there are {', '.join(case.name for case in CASES)}")
    return found


def verdict(comparison: Comparison, case: Case, base_only: bool) -> tuple[bool, str, float]:
    """Run one case; returns whether all is well, what to say of it, and the seconds that one tree took."""
    try:
        seconds = comparison.make_base(case)
        if base_only:
            return True, "made", seconds
        seconds = comparison.make(comparison.new, case)
    except RuntimeError as error:
        return False, f"FAILED: {error}", 0.0
    found = list(comparison.differences(case))
    if not found:
        return True, "same", seconds
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return False, f"DIFFERS: {', '.join(found[:3])}{more}", seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--base-only", action="store_true", help="make what the base gives, and compare nothing")
    arguments = parser.parse_args()
    cases, console = chosen(arguments.only), Console(highlight=False, markup=False, soft_wrap=True)
    os.environ.update(ENVIRONMENT)
    PROCESSES.set_forkserver_preload(IMPORTED)
    comparison = Comparison(arguments.base, arguments.new, arguments.work)
    wrong, total = 0, 0.0
    for case in cases:
        well, said, seconds = verdict(comparison, case, arguments.base_only)
        console.print(f"{case.name:38} {seconds:5.1f} s  {said}")
        wrong, total = wrong + (not well), total + seconds
    console.print(f"{len(cases)} cases, {wrong} of them not as they should be; {total:.0f} s for one tree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
