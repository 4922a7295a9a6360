# SPDX-License-Identifier: Apache-2.0
"""Cases by the names of folders and files."""

from __future__ import annotations

import re

from monai_unlearnable.data.datalist import Case, Found, label_file
from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.tree import Tree

__all__ = ["from_classes", "from_pairs"]

FOLDERS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))
NNUNET_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def from_pairs(tree: Tree) -> Found | None:
    """Folders of images and of label maps."""
    pairs = [pair for pair in FOLDERS if (tree.root / pair[0]).is_dir()]
    if not pairs:
        return None
    images, labels = next((pair for pair in pairs if (tree.root / pair[1]).is_dir()), pairs[0])
    label_of = {stem(name): label_file(tree.root, name) for name in tree.scans(labels)}
    groups: dict[str, list[str]] = {}
    for name in tree.scans(images):
        channel = NNUNET_CHANNEL.match(stem(name)) if images == "imagesTr" else None
        groups.setdefault(channel["case"] if channel else name, []).append(name)
    cases = [
        Case(stem(key), tree.root, tuple(names), label_of.get(f"{labels}/{stem(key).removeprefix(images + '/')}"))
        for key, names in groups.items()
    ]
    return Found(cases, f"folders {images}/ and {labels}/")


def from_classes(tree: Tree) -> Found | None:
    """Folders with images directly in them, whose names in ascending order are the classes 0, 1, ...; at least two."""
    folders = sorted({name.split("/")[0] for name in (*tree.files, *tree.dicom) if "/" in name or name in tree.dicom})
    found = ([name for name in tree.scans(folder) if name.count("/") == 1] for folder in folders if folder)
    classes = [files for files in found if files]
    if len(classes) < 2:
        return None
    cases = [
        Case(stem(name), tree.root, (name,), target=index) for index, files in enumerate(classes) for name in files
    ]
    return Found(cases, f"a folder for each of {len(classes)} classes")
