# SPDX-License-Identifier: Apache-2.0
"""Whether cases are those that an output was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from monai_unlearnable.data import Case, LabelGeometry, read_label, read_scan, stem
from monai_unlearnable.data.formats import digest_of
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.noise import Manifest, NoiseEntry
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import first_few

__all__ = ["refuse_others"]


Digest = Callable[[Path], str]


def refuse_others(cases: Sequence[Case], outputs: Iterable[tuple[Layout, Manifest]]) -> None:
    """Refuse cases that an output was not made from: what models learn from the two cannot be compared.

    Args:
        cases: cases that stand for the originals; fewer than were protected are no fault.
        outputs: the outputs and their records.

    Raises:
        InputError: naming the first such output, the number of such cases, and the first of them.
    """
    digest = cache(digest_of)  # each file is read once for all outputs
    for layout, manifest in outputs:
        entries = {entry.scan_id: entry for entry in manifest.scans}
        compared = track(cases, "comparing case")
        others = [case.case_id for case in compared if not _is_origin(case, entries, layout, digest)]
        if others:
            count = f"{len(others)} of {len(cases)} cases"
            reason = f"{count} of the dataset are missing in it or differ: {first_few(others)}"
            raise InputError(f"{reason}; give the dataset that it was made from", file=layout.root)


def _is_origin(case: Case, entries: Mapping[str, NoiseEntry], layout: Layout, digest: Digest) -> bool:
    """Whether a case has the voxels and the label that were recorded, whatever its headers say now."""
    known = [entries.get(stem(name)) for name in case.images]
    found = [entry for entry in known if entry is not None]
    if len(found) < len(known) or any(entry.target not in (None, case.classes) for entry in found):
        return False
    for name, entry in zip(case.images, found, strict=True):
        path = case.root / name
        if entry.file_sha256 != digest(path) and entry.clean_sha256 != read_scan(path).digest():
            return False
    return _has_label(case, found, layout.protected, digest)


def _has_label(case: Case, entries: Sequence[NoiseEntry], protected: Path, digest: Digest) -> bool:
    """Whether the label of a case is the recorded one, or holds the same classes as the published one."""
    label = entries[0].label
    if case.label is None or label is None:
        return case.label is label
    if digest(case.root / case.label) == entries[0].original_label_sha256:
        return True
    own = [read_scan(case.root / name) for name in case.images]
    published = [read_scan(protected / entry.output) for entry in entries]
    try:
        now = read_label(case.root / case.label, own, case.case_id, LabelGeometry.IGNORE)
        then = read_label(protected / label, published, case.case_id, LabelGeometry.IGNORE)
    except LabelError:
        return False
    return np.array_equal(now, then)
