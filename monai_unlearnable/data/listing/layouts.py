# SPDX-License-Identifier: Apache-2.0
"""Cases by the names of folders and files: which layout a dataset has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.bids import from_bids, is_bids
from monai_unlearnable.data.listing.datalist import Case, Found
from monai_unlearnable.data.listing.names import (
    IMAGE,
    LABEL,
    MODALITIES,
    role_of,
    section_of,
    spoken_sections,
    without_sections,
    words,
)
from monai_unlearnable.data.listing.pairs import from_pairs
from monai_unlearnable.data.listing.studies import from_studies
from monai_unlearnable.data.listing.tree import Tree, in_order, parent
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.utils.text import first_and_more

__all__ = ["find_layout", "has_label_folders"]

TRAINING = "training"
PATIENT = re.compile(r"(patient|pat|case|subject|subj|sub|study|scan|exam|series|visit|session|ses|p|id)\d+")
NUMBERED = re.compile(r"(.*?)(\d{2,})")
LISTS = "datalist.json, or labels.csv for classes"


def find_layout(tree: Tree, section: str) -> Found | None:
    """The cases that the names of folders and files tell, or None where they tell of none.

    Args:
        tree: what lies in the dataset.
        section: section of the dataset; folders called ``train``, ``val``, ``test`` or the like tell of sections, and
            what lies in none of them is for training.

    Raises:
        DatalistError: when names tell of cases that cannot be made out.
    """
    scans = _scans(tree)
    if "" in scans:
        reason = "the folder of the dataset is itself a DICOM series; give the series a folder in it, such as images/a"
        raise DatalistError(reason, file=tree.root)
    sections = {name: section_of(name) for name in scans}
    inside = [name for name in scans if sections[name] == section]
    unsaid = [name for name in scans if sections[name] is None]
    if len(unsaid) == len(scans):
        _refuse_unclear_sections(tree, unsaid)
    if section == TRAINING and not inside:
        inside, unsaid = unsaid, []
    reasons = {name: f"of the section {other!r}" for name, other in sections.items() if other not in (None, section)}
    if not inside and reasons:
        known = sorted({other for other in sections.values() if other})
        reason = f"no scan is of the section {section!r}; folders tell of {', '.join(known)}"
        raise DatalistError(
            f"{reason}. Give the folder to protect itself, or list the cases in datalist.json", file=tree.root
        )
    if not inside:
        return None
    found = _bids(tree, inside) or _studies(tree, inside) or from_pairs(tree.root, inside, unsaid)
    found = found or _classes(tree, inside, scans)
    return found and Found(found.cases, found.source, {**reasons, **found.reasons})


def _refuse_unclear_sections(tree: Tree, names: Iterable[str]) -> None:
    """Refuse folders such as ``stage1_train`` and ``stage1_test``: test cases would be taken for training cases."""
    first: dict[str, str] = {}
    for name in names:
        for section in spoken_sections(name):
            first.setdefault(section, parent(name))
    if len(first) > 1:
        reason = f"the folders {', '.join(first.values())} may hold the sections {', '.join(first)}"
        raise DatalistError(f"{reason}; call them train and test, or give {LISTS}", file=tree.root)


def has_label_folders(tree: Tree) -> bool:
    """Whether a folder with scans in it is called like one of label maps."""
    folders = {parent(name) for name in tree.files} | {*tree.dicom}
    return any(map(_is_of_labels, folders))


def _bids(tree: Tree, names: Sequence[str]) -> Found | None:
    return from_bids(tree.root, names) if is_bids(names) else None


def _studies(tree: Tree, names: Sequence[str]) -> Found | None:
    """Series and the DICOM labels that refer to them, unless folders of images tell what belongs together."""
    if not tree.dicom or any(role_of(folder) == IMAGE for name in names for folder in parent(name).split("/")):
        return None
    return from_studies(tree, names)


def _scans(tree: Tree) -> list[str]:
    """The names of scans; a folder of label maps that holds no volume, but a DICOM label, is that label."""
    pictures = _pictures(tree)
    labels = (folder for folder in tree.dicom if folder not in pictures and _is_of_labels(folder))
    return in_order([*tree.scans(pictures), *(folder for folder in labels if not tree.volumes(folder))])


def _is_of_labels(folder: str) -> bool:
    return any(role_of(part) == LABEL for part in folder.split("/"))


def _pictures(tree: Tree) -> set[str]:
    """The folders in which each DICOM file is for itself: those of label maps, and of images with a label for each."""
    labels = {folder for folder in tree.dicom if role_of(folder.rpartition("/")[2]) == LABEL}
    files = (*tree.files, *(name for folder in labels for name in tree.dicom[folder]))
    stems = {_last(name) for name in files if _is_of_labels(parent(name))}
    images = {folder for folder in tree.dicom if role_of(folder.rpartition("/")[2]) == IMAGE}
    return labels | {folder for folder in images if stems.intersection(map(_last, tree.dicom[folder]))}


def _last(name: str) -> str:
    return stem(name).rpartition("/")[2]


def _classes(tree: Tree, names: Sequence[str], all_names: Iterable[str]) -> Found | None:
    """Folders with images directly in them, whose names in ascending order are the classes 0, 1, ...; at least two.

    The names are those of all sections, so that sections agree.
    """
    paths = {name: without_sections(name) for name in all_names}
    base = _common_folder(paths.values())
    class_of = {}
    for name, path in paths.items():
        inner = path[len(base) :].split("/")
        if len(inner) == 2:
            class_of[name] = inner[0]
        elif len(inner) == 1 and name in tree.dicom and len(tree.dicom[name]) == 1:
            class_of[tree.dicom[name][0]] = inner[0]  # a picture alone in the folder of its class
    known = sorted(set(class_of.values()))
    mine = [file for name in names for file in (name, *tree.dicom.get(name, ())) if file in class_of]
    if len(known) < 2 or not mine:
        return None
    _refuse_what_are_no_classes(tree, known, class_of)
    deeper = [name for name, path in paths.items() if path[len(base) :].count("/") > 1]
    if len(deeper) > len(class_of):
        reason = f"most scans lie deeper than in the folders {first_and_more(known)}, such as {deeper[0]}"
        reason += ", and no name tells of labels"
        raise DatalistError(f"{reason}; give {LISTS}", file=tree.root)
    numbers, names_of_classes = {kind: number for number, kind in enumerate(known)}, (tuple(known),)
    cases = [
        Case(stem(name), tree.root, (name,), target=numbers[class_of[name]], class_names=names_of_classes)
        for name in mine
    ]
    reasons = dict.fromkeys({*names}.difference(mine), "not right in the folder of a class")
    return Found(cases, f"a folder for each of {len(known)} classes", reasons)


def _common_folder(names: Iterable[str]) -> str:
    """The innermost folder that all names lie in, or that holds the folders they lie in; with a slash, or empty."""
    folders = sorted({parent(name) for name in names})
    common = os.path.commonpath(folders) if all(folders) else ""
    if common in folders:  # one of the folders of classes is not above the others
        common = parent(common)
    return f"{common}/" if common else ""


def _refuse_what_are_no_classes(tree: Tree, folders: Sequence[str], class_of: dict[str, str]) -> None:
    """Refuse folders that are called like images, modalities or patients: they would be protected as classes."""
    told = first_and_more(folders)
    roles = {role_of(folder) for folder in folders}
    if LABEL in roles or roles == {IMAGE}:
        raise DatalistError(f"{told} are called like images or labels, not like classes; give {LISTS}", file=tree.root)
    stems: dict[str, set[str]] = {}
    for name, folder in class_of.items():
        stems.setdefault(folder, set()).add(_last(name))
    if all("".join(words(folder)) in MODALITIES for folder in folders) and len({*map(frozenset, stems.values())}) == 1:
        reason = f"the folders {told} are called like modalities and hold the same names, but there are no labels"
        raise DatalistError(f"{reason}; give {LISTS}", file=tree.root)
    is_volume = any(not (tree.root / name).exists() for name in class_of)
    if is_volume or _are_patients(folders, stems):
        reason = f"the folders {told} look like patients, not like classes, and no file in them like a label"
        raise DatalistError(f"{reason}; name labels like *_seg, or give {LISTS}", file=tree.root)


def _are_patients(folders: Sequence[str], stems: dict[str, set[str]]) -> bool:
    """Whether folders have names of patients, or hold files that are called like modalities or all the same."""
    texts = [re.sub(r"[\W_]", "", folder.lower()) for folder in folders]
    numbered = [NUMBERED.fullmatch(text) for text in texts]
    if all(map(PATIENT.fullmatch, texts)) or (all(numbered) and len({match[1] for match in numbered if match}) == 1):
        return True
    alike = set.intersection(*stems.values())
    if all(found == alike for found in stems.values()) and any(map(_is_word, alike)):
        return True
    if len(texts) > 2 and all(map(str.isdigit, texts)) and all(len(found) == 1 for found in stems.values()):
        return True
    rest = {name.lower().removeprefix(folder.lower()) for folder, found in stems.items() for name in found}
    return {"".join(words(text)) for text in rest} <= MODALITIES | {"", "image", "img", "scan", "volume", "imaging"}


def _is_word(name: str) -> bool:
    """Whether a name is a word: files of classes have numbers, those of patients say what they are."""
    return "".join(words(name)) in MODALITIES or bool(re.fullmatch(r"[^\W\d]{3,}", name))
