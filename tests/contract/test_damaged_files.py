# SPDX-License-Identifier: Apache-2.0
"""One contract for whatever reads files: damage is an error that says what and where, or does no harm.

``DAMAGED_FILES=500 pytest tests/contract/test_damaged_files.py`` tries more of them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.data import load_cases, output_name, read_label, read_scan, unpack_archive, write_scan
from monai_unlearnable.data.formats import files_of, read_label_scan
from monai_unlearnable.errors import ScanError, UnlearnableError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.perturbers import RandomNoise, load_input_settings, load_perturber
from monai_unlearnable.publishing.label_files import publish_label
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.publishing.verify import verify
from tests import dicom
from tests.contract.test_readers import FILES, LABELS, changed
from tests.damage import COUNT, damaged
from tests.helpers import random_image, tree, two_classes, write_dataset
from tests.volumes import VOLUMES

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, on what they find


TYPE_ALONE = re.compile(r"(nifti|mha|nrrd|mgz|gipl|tiff-little|tiff-big|dicom)-u?(int|float|[iuf])\d+")
# Of files that differ in the type of voxels alone, one.
NAMES = [name for name in FILES if not TYPE_ALONE.fullmatch(name) or name.endswith(("-i2", "-int16"))]


@pytest.mark.parametrize("name", NAMES)
def test_scans(name: str, tmp_path: Path) -> None:
    path, out = FILES[name](tmp_path), tmp_path / "out"
    file = sorted(path.iterdir())[1 if len(list(path.iterdir())) > 1 else 0] if path.is_dir() else path
    for content in damaged(file.read_bytes(), compressed=file.suffix in (".gz", ".mgz")):
        file.write_bytes(content)
        try:
            scan = read_scan(path)
            write_scan(scan, changed(scan.voxels), out / output_name(path.name))
        except UnlearnableError as error:
            assert path.name in str(error) and not out.exists()
        shutil.rmtree(out, ignore_errors=True)


@pytest.mark.parametrize("name", [name for name in VOLUMES if name.startswith(("pair", "mhd", "nhdr"))])
def test_data_files(name: str, tmp_path: Path) -> None:
    path, out = FILES[name](tmp_path), tmp_path / "out"
    file = files_of(path)[-1]
    for content in damaged(file.read_bytes(), compressed=file.suffix == ".gz"):
        file.write_bytes(content)
        try:
            scan = read_scan(path)
            write_scan(scan, changed(scan.voxels), out / path.name)
        except UnlearnableError as error:
            assert path.name in str(error) and not out.exists()
        shutil.rmtree(out, ignore_errors=True)
    file.unlink()
    with pytest.raises(ScanError, match=re.escape(path.name)):
        read_scan(path)


@pytest.mark.parametrize("name", LABELS)
def test_labels(name: str, tmp_path: Path) -> None:
    path = LABELS[name][0](tmp_path)
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            read_label_scan(path, [])
        except UnlearnableError as error:
            assert path.name in str(error)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentations(kind: str, tmp_path: Path) -> None:
    series = dicom.write_series(tmp_path / "series", random_image((6, 5, 4)))
    path, out = dicom.write_seg(series, tmp_path / "a.dcm", two_classes((6, 5, 4)), kind), tmp_path / "out.dcm"
    scan = read_scan(series)
    for content in damaged(path.read_bytes(), 4 * COUNT):
        path.write_bytes(content)
        try:
            assert read_label(path, [scan]).shape == (1, 6, 5, 4)
            publish_label(path, out, [(scan, changed(scan.voxels))])
        except UnlearnableError as error:
            assert path.name in str(error) and not out.exists()
        out.unlink(missing_ok=True)


@dataclass(frozen=True)
class Owned:
    """An output, plain and sealed, with its key; and other files that the program reads."""

    root: Path

    @property
    def scan(self) -> str:
        return NoiseStore(self.root / "plain/noise").ids()[0]

    @property
    def key(self) -> OwnerKey:
        return OwnerKey.load(self.root / "key")

    def restored(self, output: str, key: OwnerKey | None = None) -> None:
        target = self.root / "restored"
        shutil.rmtree(target, ignore_errors=True)
        try:
            restore(self.root / output, target, key=key)
        finally:
            whole = (self.root / "data").rglob("*.nii.gz")
            originals = {path.name: read_scan(path).digest() for path in whole if path.parent.name == "images"}
            for path in target.rglob("images/*"):
                assert read_scan(path).digest() == originals[path.name], "what is restored is right"


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Owned:
    root = tmp_path_factory.mktemp("owned")
    data, key = write_dataset(root / "data"), OwnerKey.generate()
    key.save(root / "key")
    cases = load_cases(data)
    for name, own in (("plain", None), ("sealed", key)):
        Publication(cases, RandomNoise(0.05), root / name, PercentileWindow(), Budget(0.05), key=own).run()
    NoiseStore(root / "sealed/noise", key).share([cases[0].case_id]).save(root / "ring")
    entries = [{"image": case.images[0], "label": case.label} for case in cases]
    (data / "datalist.json").write_text(json.dumps({"training": entries}))
    shutil.copytree(data / "images", root / "table/images")
    rows = [f"{case.images[0]},{index}" for index, case in enumerate(cases)]
    (root / "table/labels.csv").write_text("\n".join(["image,label", *rows]))
    pixels, labels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), np.arange(4)[:, None] % 2
    parts = {
        f"{part}_{what}": value for part in ("train", "val") for what, value in (("images", pixels), ("labels", labels))
    }
    np.savez(root / "archive.npz", **parts)
    return Owned(root)


def unpacked(owned: Owned) -> None:
    shutil.rmtree(owned.root / "unpacked", ignore_errors=True)
    unpack_archive(owned.root / "archive.npz", owned.root / "unpacked")


# What is damaged, and what reads it.
READERS: dict[str, tuple[Callable[[Owned], str], Callable[[Owned], object]]] = {
    "datalist": (lambda o: "data/datalist.json", lambda o: load_cases(o.root / "data")),
    "table": (lambda o: "table/labels.csv", lambda o: load_cases(o.root / "table")),
    "archive": (lambda o: "archive.npz", unpacked),
    "manifest": (lambda o: "plain/noise/manifest.json", lambda o: verify(o.root / "plain")),
    "manifest-restore": (lambda o: "plain/noise/manifest.json", lambda o: o.restored("plain")),
    "noise": (lambda o: f"plain/noise/{o.scan}.npz", lambda o: verify(o.root / "plain")),
    "noise-restore": (lambda o: f"plain/noise/{o.scan}.npz", lambda o: o.restored("plain")),
    "protected": (lambda o: f"plain/protected/{o.scan}.nii.gz", lambda o: verify(o.root / "plain")),
    "sealed": (lambda o: f"sealed/noise/{o.scan}.npz.sealed", lambda o: o.restored("sealed", o.key)),
    "sealed-manifest": (lambda o: "sealed/noise/manifest.json.sealed", lambda o: verify(o.root / "sealed", key=o.key)),
    "checkpoint": (
        lambda o: "plain/models/perturber.safetensors",
        lambda o: [
            load(o.root / "plain/models/perturber.safetensors") for load in (load_perturber, load_input_settings)
        ],
    ),
    "checkpoint-verify": (lambda o: "plain/models/perturber.safetensors", lambda o: verify(o.root / "plain")),
    "statement": (
        lambda o: "plain/statement.json",
        lambda o: audit(o.root / "plain/protected", o.root / "plain/statement.json"),
    ),
    "key": (lambda o: "key", lambda o: load_key(o.root / "key")),
    "ring": (lambda o: "ring", lambda o: load_key(o.root / "ring")),
}
# Any change of these is found.
SURE = ("noise", "protected", "sealed", "sealed-manifest", "checkpoint-verify")


@pytest.mark.parametrize("name", READERS)
def test_other_files(name: str, owned: Owned) -> None:
    find, read = READERS[name]
    path = owned.root / find(owned)
    good, before = path.read_bytes(), tree(owned.root / "data" / "images")
    try:
        read(owned)
        for content in damaged(good):
            path.write_bytes(content)
            try:
                read(owned)
            except UnlearnableError as error:
                assert str(error).strip()
            else:
                assert name not in SURE or content == good, "no change goes unnoticed"
    finally:
        path.write_bytes(good)
    assert tree(owned.root / "data" / "images") == before
