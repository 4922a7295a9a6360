# SPDX-License-Identifier: Apache-2.0
"""Images and their label maps, paired by the names of folders and files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath

from monai_unlearnable.data.formats import stem
from monai_unlearnable.data.listing.datalist import WAY_OUT, Case, Found, label_file
from monai_unlearnable.data.listing.names import IMAGE, JOINTS, LABEL, ScanName
from monai_unlearnable.data.listing.tree import parent
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.utils.grouping import distinct, grouped
from monai_unlearnable.utils.text import first_and_more

__all__ = ["from_pairs"]

ALIKE = f"name them alike, or {WAY_OUT}"
MERGE = ". Where each structure has a mask of its own, merge those of an image into one label map first"
NNUNET = ("imagesTr", "imagesTs")
FEW = 3


def from_pairs(root: Path, names: Sequence[str], others: Sequence[str] = ()) -> Found | None:
    """Cases of images with a label map each, if names of folders or files tell that there are label maps.

    A label and its images have one name but for the words that tell labels from images, and a part of the images' names
    that tells the channel: ``images/a`` and ``masks/a``, ``a`` and ``a_seg``, ``P/P_t1`` and ``P/P_seg``, ``P/t1`` and
    ``P/seg``, ``imagesTr/a_0000`` and ``labelsTr/a``.

    Args:
        root: folder of the dataset.
        names: names of its scans.
        others: names of scans outside the section, among which labels may be.

    Raises:
        DatalistError: when names tell of labels that pair with no image, or not uniquely; or when cases have different
            channels.
    """
    shared = len(PurePosixPath(os.path.commonpath([parent(name) or "." for name in (*names, *others)])).parts)
    labels, images = _sort([ScanName.parse(name, shared) for name in (*names, *others)])
    outside = {*others}
    images = [part for part in images if part.name not in outside]
    if not labels:
        return _unlabeled(root, images)
    pairing = _Pairing(root, labels, images)
    if not pairing.groups:
        way = f"{ALIKE}{MERGE}" if len(labels) > len(images) > 0 else ALIKE
        raise DatalistError(f"{_told(labels, images)}, but no names pair; {way}", file=root)
    pairing.refuse_other_folders(outside)
    return pairing.found()


def _sort(parts: Sequence[ScanName]) -> tuple[list[ScanName], list[ScanName]]:
    """Labels, by their folders or else the names of their files, and images."""
    by_folder = {part.full for part in parts if part.role == LABEL}
    is_label = [part.role == LABEL or bool(part.word and part.full not in by_folder) for part in parts]
    labels = [part for part, label in zip(parts, is_label, strict=True) if label]
    images = [part for part, label in zip(parts, is_label, strict=True) if not label]
    in_folders = [part for part in images if part.role == IMAGE]
    return labels, in_folders or images


def _unlabeled(root: Path, images: Sequence[ScanName]) -> Found | None:
    """The content of folders of images without any label."""
    images = [part for part in images if part.role == IMAGE and not part.modality]
    cases = [Case(case_id, root, names) for case_id, names in _channels(images).items()]
    return Found(cases, f"{_folders(images)}, without labels") if cases else None


def _channels(images: Sequence[ScanName]) -> dict[str, tuple[str, ...]]:
    """Files of each image by its name: in nnU-Net's folders four digits at the end are the channel."""
    groups: dict[str, list[str]] = {}
    for part in images:
        name, is_nnunet = stem(part.name), part.folder.rpartition("/")[2] in NNUNET
        head, _, number = name.rpartition("_")
        has_channel = is_nnunet and len(number) == 4 and number.isdigit()
        groups.setdefault(head if has_channel else part.name, []).append(part.name)
    return {stem(key): tuple(names) for key, names in groups.items()}


@dataclass
class _Group:
    """The images of one label, by channel."""

    label: ScanName
    images: dict[str, ScanName] = field(default_factory=dict)


class _Pairing:
    """Labels with their images, and what remains of both."""

    def __init__(self, root: Path, labels: Sequence[ScanName], images: Sequence[ScanName]) -> None:
        self.root, self.labels, self.images = root, labels, images
        self.groups: dict[str, _Group] = {}
        self.reasons: dict[str, str] = {}
        self.left: list[ScanName] = []  # images without a label
        exact, loose = (grouped(labels, attrgetter(key)) for key in ("full", "bare"))
        for part in images:
            label, channel = self._label_of(part, exact, loose)
            if label is None:
                self.left.append(part)
            else:
                self._put(label, channel, part)
        self.unlabeled: list[ScanName] = []
        self._pair_longer_labels()
        for part in self.left:
            self._leave(part, "an image without a label")
        self._choose()

    def _label_of(
        self, part: ScanName, exact: Mapping[str, list[ScanName]], loose: Mapping[str, list[ScanName]]
    ) -> tuple[ScanName | None, str]:
        """The label of an image, and the channel that the image is."""
        for known, key in ((exact, part.full), (loose, part.full), (loose, part.bare), (exact, part.bare)):
            if key in known:
                return self._only(known[key], part), part.modality
        for key, rest in part.beginnings():
            for known in (loose, exact):
                if key in known and (key or "/" not in part.full):
                    rest = "" if rest == key.rpartition("/")[2] else rest
                    return self._only(known[key], part), f"{part.modality} {rest}".strip()
        for key in (part.full, part.bare):  # a folder of labels beside one of images that has a name of its own
            for known in (exact, loose):
                if (last := key.rpartition("/")[2]) in known:
                    return self._only(known[last], part), part.modality
        return None, ""

    def _only(self, labels: Sequence[ScanName], image: ScanName) -> ScanName:
        names = distinct(label.name for label in labels)
        if len(names) > 1:
            reason = f"{first_and_more(names)} are labels of one image, {image.name}"
            raise DatalistError(f"{reason}; merge them into one label map, or {ALIKE}", file=self.root)
        return labels[0]

    def _put(self, label: ScanName, channel: str, image: ScanName) -> None:
        group = self.groups.setdefault(label.name, _Group(label))
        first = group.images.setdefault(channel, image)
        if first is not image:
            same = stem(first.name) == stem(image.name)
            what = "have one name; rename one" if same else f"are both images of {label.name}; {ALIKE}"
            raise DatalistError(f"{first.name} and {image.name} {what}", file=self.root)

    def _pair_longer_labels(self) -> None:
        """Pair labels whose names add the same words to those of their images: ``a`` and ``a_lesion_mask``."""
        images = {key: part for part in self.images for key in (part.full, part.bare)}
        of_image: dict[str, list[tuple[ScanName, str]]] = {}
        for label in self.labels:
            if label.name not in self.groups:
                hits = ((images[key].name, rest) for key, rest in label.beginnings() if key in images)
                if (hit := next(hits, None)) is not None:
                    of_image.setdefault(hit[0], []).append((label, hit[1]))
        known = {part.name: group.label for group in self.groups.values() for part in group.images.values()}
        by_name = {part.name: part for part in self.images}
        for name, found in of_image.items():
            self._only([*([known[name]] if name in known else []), *(label for label, _ in found)], by_name[name])
        if len({rest for found in of_image.values() for _, rest in found}) == 1:
            for name, ((label, _),) in of_image.items():
                self._put(label, "", by_name[name])
            self.left = [part for part in self.left if part.name not in of_image]

    def _choose(self) -> None:
        """Check that all cases have the same channels, and keep one image a case where names tell of no channels."""
        for group in self.groups.values():
            if "" in group.images and len(group.images) > 1:
                for channel in [*filter(None, group.images)]:
                    self._leave(group.images.pop(channel), f"not the image that {group.label.name} is named after")
        kinds = Counter(tuple(sorted(group.images)) for group in self.groups.values())
        if len(kinds) > 1 and any(len(kind) > 1 or kind[0] == "" or kind[0].isdigit() for kind in kinds):
            first = {tuple(sorted(group.images)): group.label.name for group in reversed(self.groups.values())}
            usual = kinds.most_common(FEW)
            told = "; ".join(f"{count} have {first_and_more(kind) or 'one'} ({first[kind]})" for kind, count in usual)
            reason = f"all cases must have the same images as channels, but {told}"
            raise DatalistError(f"{reason}; complete them, or {WAY_OUT}", file=self.root)
        self.channels = next(iter(kinds)) if kinds else ()

    def _leave(self, image: ScanName, reason: str) -> None:
        """An image without a label is a case without one where its folder says that it is an image of the dataset."""
        if image.role == IMAGE:
            self.unlabeled.append(image)
        else:
            self.reasons[image.name] = reason

    def refuse_other_folders(self, outside: Container[str]) -> None:
        """Refuse a folder of labels none of which pairs where another one pairs: it may be the one that is meant."""
        labels = [part for part in self.labels if part.role == LABEL and part.name not in outside]
        paired = [part for part in labels if part.name in self.groups]
        folders = {*map(_last_folder, paired)}
        for part in labels:
            if paired and _last_folder(part) not in folders:
                reason = f"{paired[0].name} and {part.name} may be labels of one image, and the second pairs with none"
                raise DatalistError(f"{reason}; merge them into one label map, or {WAY_OUT}", file=self.root)

    def found(self) -> Found:
        cases = [self._case(group) for group in self.groups.values()]
        for part in self.labels:
            if part.name not in self.groups:
                self.reasons[part.name] = "a label without an image"
        cases += [Case(case_id, self.root, names) for case_id, names in _channels(self.unlabeled).items()]
        order = {part.name: index for index, part in enumerate(self.images)}
        cases.sort(key=lambda case: order[case.images[0]])
        return Found(cases, self._source(), self.reasons)

    def _case(self, group: _Group) -> Case:
        images = [group.images[channel].name for channel in sorted(group.images)]
        name = stem(images[0])
        channel = min(group.images)
        if name.endswith(channel) and (len(images) > 1 or (len(channel) == 4 and channel.isdigit())):
            name = name[: len(name) - len(channel)].rstrip(JOINTS + "/") or name
        elif len(images) > 1:
            name = group.label.bare or name
        return Case(name, self.root, tuple(images), label_file(self.root, group.label.name))

    def _source(self) -> str:
        used = [group.label for group in self.groups.values()]
        images = [part for group in self.groups.values() for part in group.images.values()]
        is_in_folders = all(part.role == LABEL for part in used)
        if is_in_folders:
            where = f"folders {_names_of(images)} and {_names_of(used)}" if images[0].folder else _folders(used)
        else:
            kinds = sorted({part.word for part in used if part.word})
            where = f"label maps named {first_and_more(kinds)}"
        return f"{where}, channels {', '.join(self.channels)}" if len(self.channels) > 1 else where


def _last_folder(part: ScanName) -> str:
    """The name of the folder that tells the role, which is one for all patients."""
    return part.folder.rpartition("/")[2]


def _names_of(parts: Sequence[ScanName]) -> str:
    """The folders that tell the role of scans."""
    folders = distinct(part.folder for part in parts if part.folder)
    inner = distinct(f"*/{folder.rpartition('/')[2]}" for folder in folders)
    return first_and_more([f"{folder}/" for folder in (folders if len(folders) <= FEW else inner)])


def _folders(parts: Sequence[ScanName]) -> str:
    return f"folders {_names_of(parts)}"


def _told(labels: Sequence[ScanName], images: Sequence[ScanName]) -> str:
    """What names tell of a dataset whose images and labels do not pair."""
    label_names, image_names = (first_and_more([part.name for part in parts]) for parts in (labels, images))
    found = [f"{len(labels)} files look like label maps ({label_names})"]
    found += [f"{len(images)} like images ({image_names})" if images else "none like images"]
    return " and ".join(found)
