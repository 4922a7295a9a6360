# SPDX-License-Identifier: Apache-2.0
"""No bit of what is published, of the noise or of its record can change unseen: ``verify`` finds each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import UnlearnableError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.verify import verify
from tests import dicom
from tests.helpers import random_image, tree, two_classes, write_class_folders, write_nifti

KEYS = {"plain": None, "sealed": OwnerKey(bytes(range(32)))}
SHAPE = (5, 6, 4)


def nifti(root: Path) -> None:
    write_nifti(root / "images/a.nii.gz", random_image(SHAPE))
    write_nifti(root / "images/b.nii", random_image(SHAPE, "uint8"))
    for name in ("a.nii.gz", "b.nii"):
        write_nifti(root / "labels" / name, two_classes(SHAPE))


def png(root: Path) -> None:
    write_class_folders(root, counts=(1, 1), shape=(7, 6))


def series(root: Path) -> None:
    dicom.write_series(root / "images/a", random_image(SHAPE))
    dicom.write_label(root / "images/a", root / "labels/a.nii.gz", two_classes(SHAPE))


MAKE: dict[str, Callable[[Path], None]] = {"nifti": nifti, "png": png, "dicom": series}
KINDS = [(kind, lock) for kind in MAKE for lock in KEYS]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A protected dataset of each kind, plain and sealed."""
    root = tmp_path_factory.mktemp("outputs")
    for kind, lock in KINDS:
        data = root / kind / "data"
        if not data.exists():
            MAKE[kind](data)
        cases, noise = load_cases(data), RandomNoise(0.1, Everywhere())
        Publication(cases, noise, root / kind / lock, PercentileWindow(), Budget(0.1), key=KEYS[lock]).run()
    return {(kind, lock): root / kind / lock for kind, lock in KINDS}


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def check_found(out: Path, lock: str, name: str, changed: bytes) -> None:
    path = out / name
    content = path.read_bytes()
    assert changed != content
    try:
        path.write_bytes(changed)
        with pytest.raises(UnlearnableError):
            verify(out, key=KEYS[lock])
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(("kind", "lock"), KINDS)
@given(data=st.data())
def test_any_flipped_bit_is_found(
    outputs: dict[tuple[str, str], Path], kind: str, lock: str, data: st.DataObject
) -> None:
    out = outputs[kind, lock]
    files = {name: content for name, content in tree(out).items() if name.startswith(("protected/", "noise/"))}
    name = data.draw(st.sampled_from(sorted(files)))
    bit = data.draw(st.integers(0, len(files[name]) * 8 - 1))
    check_found(out, lock, name, flip(files[name], bit))


@pytest.mark.parametrize("kind", MAKE)
def test_no_letter_of_a_plain_manifest_has_another_case(outputs: dict[tuple[str, str], Path], kind: str) -> None:
    """JSON says some things in two ways, such as 1e-05 and 1E-05: bits that leave the same meaning are found too."""
    out, name = outputs[kind, "plain"], "noise/manifest.json"
    content = (out / name).read_bytes()
    names = [content.index(b'"noise_sha256"') + offset for offset in range(1, 13)]
    numbers = [match.start() + 1 for match in re.finditer(rb"\de-\d", content)]
    blanks = [match.start() for match in re.finditer(rb"\n", content)]
    for position in (*names, *numbers, *blanks[::40]):
        check_found(out, "plain", name, flip(content, position * 8 + 5))
