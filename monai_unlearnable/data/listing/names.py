# SPDX-License-Identifier: Apache-2.0
"""What the name of a scan says: image or label, of which case, of which section of the dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.tables import SECTIONS

__all__ = ["IMAGE", "LABEL", "MODALITIES", "ScanName", "role_of", "section_of", "spoken_sections"]
__all__ += ["without_sections", "words"]

IMAGE, LABEL = "image", "label"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


LABEL_WORDS = _set(
    "label labels lbl labelmap labelmaps mask masks msk seg segs segm segmentation segmentations dseg gt gts truth "
    "groundtruth annotation annotations annot manual roi rois contour contours"
)
ONLY_FOLDERS = _set("roi rois contour contours manual")  # in names of files as often part of the name of an image
IMAGE_WORDS = _set(
    "image images img imgs imaging scan scans original originals orig input inputs volume volumes vol picture pictures "
    "photo photos"
)
# Kinds of images. A folder of such a name holds images only where nothing else says what it holds.
MODALITIES = _set(
    "ct cts cta mr mri mra pet us xray xrays dicom dicoms nifti data t1 t1w t1c t1ce t1gd t1n t2 t2w t2f flair adc dwi "
    "pd swi cbf cbv tmax mtt bold"
)
TEST_SUFFIXES = {"ts": "test", "tr": "training", "va": "validation"}  # nnU-Net: imagesTr, imagesTs
SECTION_WORDS = {**SECTIONS, "testing": "test"}
SECTION_WORDS |= {f"{word}{end}": section for word, section in SECTION_WORDS.items() for end in ("set", "data")}
SECTION_NOISE = _set("set sets data dataset datasets")  # "train_set", "TestDataset"

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")  # "GroundTruth" and "JPEGImages" are two words each
LETTERS = re.compile(r"[^\W\d_]+")
JOINTS = "_-. "
SLICER = ".seg.nrrd"  # whose first part is the word for labels


@lru_cache(maxsize=65536)
def words(text: str) -> tuple[str, ...]:
    """The words and numbers in a name, in lower case."""
    return tuple(word.lower() for word in WORD.findall(text))


@lru_cache(maxsize=65536)
def role_of(folder: str) -> str | None:
    """What a folder of this name holds, if it has a word for it; ``scan1`` is one scan, not a folder of scans."""
    found = words(folder)
    if LABEL_WORDS.intersection(found) or "".join(found) in LABEL_WORDS:
        return LABEL
    numbered = re.findall(r"([a-z]+)\d", folder.lower())
    return IMAGE if IMAGE_WORDS.intersection(found).difference(numbered) else None


@lru_cache(maxsize=65536)
def _folder_section(folder: str) -> str | None:
    found = words(folder)
    if len(found) > 1 and found[-1] in TEST_SUFFIXES and found[-2] in IMAGE_WORDS | LABEL_WORDS:
        return TEST_SUFFIXES[found[-1]]
    rest = [word for word in found if word not in SECTION_WORDS and word not in SECTION_NOISE]
    named = [SECTION_WORDS[word] for word in found if word in SECTION_WORDS]
    return named[0] if named and (not rest or role_of(folder)) else None


def section_of(name: str) -> str | None:
    """The section of a dataset that a file belongs to by its folders, if any tells."""
    found = (_folder_section(folder) for folder in name.split("/")[:-1])
    return next((section for section in found if section), None)


def spoken_sections(name: str) -> set[str]:
    """The sections that words in the names of a file's folders speak of, also where such a name does not tell one."""
    found = (word for folder in name.split("/")[:-1] for word in words(folder))
    return {SECTION_WORDS[word] for word in found if word in SECTION_WORDS}


def without_sections(name: str) -> str:
    """A name without the folders that tell only the section."""
    *folders, last = name.split("/")
    return "/".join([*(f for f in folders if role_of(f) or not _folder_section(f)), last])


def _strip(text: str, known: frozenset[str]) -> tuple[str, str | None]:
    """A name without the last of its words that is among the known ones, and that word."""
    matches = [match for match in LETTERS.finditer(text) if match[0].lower() in known]
    if not matches:
        return text, None
    start, end = matches[-1].span()
    head, tail = text[:start].rstrip(JOINTS), text[end:].lstrip(JOINTS)
    return (f"{head}_{tail}" if head and tail else head or tail), text[start:end]


@dataclass(frozen=True)
class ScanName:
    """The name of a scan, taken apart.

    Args:
        name: the name, relative to the dataset.
        role: ``image`` or ``label`` if a folder tells, else None.
        folder: the folder that tells.
        full: its other folders and its stem, without those of sections.
        bare: the same without the word for its role in the name of the file.
        word: word for labels in the name of the file, if there is one.
        modality: kind of image that the folder names, if it is all that tells.
    """

    name: str
    role: str | None
    folder: str
    full: str
    bare: str
    word: str | None
    modality: str = ""

    @classmethod
    def parse(cls, name: str, shared: int = 0) -> ScanName:
        """Take a name apart. The innermost folder that tells the role counts.

        Args:
            name: the name, relative to the dataset.
            shared: number of outer folders that all scans lie in; that they are called like labels tells nothing.
        """
        *folders, last = (name[:-5] if name.lower().endswith(SLICER) else stem(name)).split("/")
        roles = [role_of(folder) for folder in folders]
        roles[:shared] = [None if role == LABEL else role for role in roles[:shared]]
        place = next((i for i in reversed(range(len(roles))) if roles[i]), None)
        role, modality = (None, "") if place is None else (roles[place], "")
        if place is None:
            kinds = (i for i in reversed(range(len(folders))) if "".join(words(folders[i])) in MODALITIES)
            place = next(kinds, None)
            role, modality = (None, "") if place is None else (IMAGE, folders[place])
        others = [f for i, f in enumerate(folders) if i != place and not _folder_section(f)]
        bare, word = _strip(last, LABEL_WORDS - ONLY_FOLDERS)
        if role != LABEL and word is None:
            bare, _ = _strip(last, IMAGE_WORDS)
        return cls(
            name=name,
            role=role,
            folder="" if place is None else "/".join(folders[: place + 1]),
            full="/".join((*others, last)),
            bare="/".join((*others, bare)) if bare else "/".join(others),
            word=word,
            modality=modality,
        )

    def beginnings(self) -> Iterator[tuple[str, str]]:
        """What the case can be called, the longest first, and the rest of the name, which tells the channel."""
        for key in dict.fromkeys((self.bare, self.full)):
            for end in reversed(range(1, len(key))):
                if key[end] in JOINTS or key[end] == "/":
                    yield key[:end], key[end + 1 :]
            folder, _, last = key.rpartition("/")
            for start in range(1, len(last)):
                if last[start] in JOINTS:
                    yield f"{folder}/{last[start + 1 :]}".lstrip("/"), last[:start]
            if not folder:
                yield "", key
