# SPDX-License-Identifier: Apache-2.0
"""BIDS: images by subject and session, label maps in ``derivatives/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.datalist import WAY_OUT, Case, Found
from monai_unlearnable.data.listing.names import LABEL_WORDS
from monai_unlearnable.data.listing.tree import parent
from monai_unlearnable.errors import DatalistError

__all__ = ["from_bids", "is_bids"]

DERIVATIVES = "derivatives"


def is_bids(names: Sequence[str]) -> bool:
    """Whether scans are laid out as BIDS says: ``sub-01/[ses-1/]anat/sub-01_[ses-1_]T1w.nii.gz``."""
    parts = (part for part in map(_Name.parse, names) if part is not None and not _is_derived(part.name))
    return any(not part.kind.startswith(("sub-", "ses-")) for part in parts)


@dataclass(frozen=True)
class _Name:
    name: str
    group: tuple[str, str]  # subject and session
    suffix: str  # T1w, mask, ...
    words: frozenset[str]  # of the entities between them

    @classmethod
    def parse(cls, name: str) -> _Name | None:
        folders, _, last = stem(name).rpartition("/")
        entities = last.split("_")
        subject = entities[0]
        if not subject.startswith("sub-") or subject not in folders.split("/") or len(entities) < 2:
            return None
        session = next((entity for entity in entities if entity.startswith("ses-")), "")
        rest = [entity for entity in entities[1:] if entity != session]
        words = {word for entity in rest for word in (entity, *entity.split("-")[1:])}
        return cls(name, (subject, session), rest[-1] if rest else "", frozenset(words))

    @property
    def is_label(self) -> bool:
        return not LABEL_WORDS.isdisjoint(word.lower() for word in self.words)

    @property
    def kind(self) -> str:
        """The folder that tells the kind of image: ``anat``, ``dwi``."""
        return parent(self.name).rpartition("/")[2]

    @property
    def told(self) -> str:
        return "_".join(filter(None, self.group))


def _is_derived(name: str) -> bool:
    return DERIVATIVES in name.split("/")[:-1]


def from_bids(root: Path, names: Sequence[str]) -> Found:
    """Cases of one image of a session and the one label map of it in ``derivatives/``.

    Of several images of a session the label's name tells the one: ``sub-01_T1w_label-lesion_mask`` or ``space-T1w``.

    Args:
        root: folder of the dataset.
        names: names of its scans.

    Raises:
        DatalistError: when there are no labels; when a session has several, or several images and the label names none.
    """
    images: dict[tuple[str, str], list[_Name]] = {}
    labels: dict[tuple[str, str], list[_Name]] = {}
    reasons = dict.fromkeys(names, "not named as BIDS names scans")
    for part in filter(None, map(_Name.parse, names)):
        if part.is_label:
            labels.setdefault(part.group, []).append(part)
            reasons[part.name] = "a label without an image"
        elif _is_derived(part.name):
            reasons[part.name] = "derived from an image, and no label"
        else:
            images.setdefault(part.group, []).append(part)
            reasons[part.name] = "an image without a label"
    cases = []
    for group, found in labels.items():
        if len(found) > 1:
            told = ", ".join(part.name for part in found[:3])
            raise DatalistError(f"{found[0].told} has {len(found)} label maps: {told}; {WAY_OUT}", file=root)
        if group in images:
            image = _image_of(root, found[0], images[group])
            cases.append(Case(stem(image.name), root, (image.name,), found[0].name))
    if not cases:
        what = "holds images, but no label map of them" if images else "holds no images"
        reason = f"the BIDS dataset {what}: labels are files such as {DERIVATIVES}/*/sub-01/anat/sub-01_*_mask.nii.gz"
        raise DatalistError(f"{reason}; or {WAY_OUT}", file=root)
    for part in (part for group, found in images.items() if group in labels for part in found):
        reasons[part.name] = "not the image that the label of the session is of"
    order = {name: index for index, name in enumerate(names)}
    cases.sort(key=lambda case: order[case.images[0]])
    kinds = sorted({part.suffix for found in images.values() for part in found if part.name in _used(cases)})
    return Found(cases, f"BIDS, {', '.join(kinds)} with labels in {DERIVATIVES}/", reasons)


def _used(cases: Sequence[Case]) -> set[str]:
    return {name for case in cases for name in case.images}


def _image_of(root: Path, label: _Name, images: Sequence[_Name]) -> _Name:
    named = [part for part in images if part.words <= label.words]
    named = named or [part for part in images if part.suffix in label.words]
    named = named or [part for part in images if part.kind == label.kind] or list(images)
    if len(named) > 1:
        told = ", ".join(part.name for part in named[:3])
        reason = f"{label.told} has {len(named)} images: {told}, and {label.name} does not say which one it is of"
        raise DatalistError(f"{reason}; {WAY_OUT}, with a list of images for those of several channels", file=root)
    return named[0]
