# SPDX-License-Identifier: Apache-2.0
"""Where an output, and what is restored from it, may lie: never where it could replace or join originals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_unlearnable.data import Case, find_format
from monai_unlearnable.data.formats import digest_of
from monai_unlearnable.errors import OutputError, ScanError
from monai_unlearnable.noise import NoiseEntry
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.writing import encode_datalist
from monai_unlearnable.utils.files import reading

__all__ = ["check_cases", "check_destination", "check_output", "refuse_within"]

OWN = ("protected", "noise", "models", "unpacked", "fetched", "laboratory", "report", "auto")  # folders of an output
LISTS = (".json", ".csv", ".tsv", ".npz")  # what a dataset may hold besides scans
ELSEWHERE = "choose a folder that lies beside the dataset"


def check_output(
    output_dir: str | Path, dataset_dir: str | Path | None = None, given: Iterable[str | Path | None] = ()
) -> None:
    """Refuse a folder in which an output could replace or join originals; links are followed.

    Args:
        output_dir: folder of the output. It is new, empty, an earlier output, or holds only other things than data.
        dataset_dir: folder or archive of the dataset, if it is one.
        given: files that are read besides it, such as a datalist.

    Raises:
        OutputError: naming the folder, and what would be a way out.
    """
    layout = Layout(output_dir)
    with reading(layout.root):
        for dataset in () if dataset_dir is None else _folders(Path(dataset_dir)):
            for folder in (layout.root, layout.protected, layout.noise, layout.models):
                refuse_within(folder, dataset)
            _refuse_inside(layout, dataset, f"the dataset {dataset_dir}")
        for file in given:
            if file is not None:
                _refuse_inside(layout, Path(file).resolve(), str(file))
        entries = sorted(path.name for path in layout.root.iterdir()) if layout.root.is_dir() else []
        data = [name for name in entries if _may_be_data(layout.root / name)]
        if data and not set(entries) & set(OWN):
            reason = f"the folder is no earlier output, and not empty: it holds {', '.join(data[:3])}"
            raise OutputError(
                f"{reason}{', ...' if len(data) > 3 else ''}; choose a new or empty one", file=layout.root
            )


def refuse_within(output_dir: str | Path, dataset_dir: str | Path) -> None:
    """Refuse a folder that would be taken for a part of a dataset; links are followed.

    Raises:
        OutputError: naming the folder, and what would be a way out.
    """
    folder, dataset = Path(output_dir).resolve(), Path(dataset_dir).resolve()
    if folder == dataset or dataset in folder.parents:
        reason = f"the output would lie inside the dataset {dataset_dir}, and be taken for a part of it"
        raise OutputError(f"{reason}; {ELSEWHERE}", file=output_dir)


def check_cases(cases: Iterable[Case], output_dir: str | Path) -> None:
    """Refuse an output that the files of cases lie in, to which links in the dataset may lead.

    Raises:
        OutputError: naming the first such case and file.
    """
    layout = Layout(output_dir)
    for case in cases:
        for name in case.files:
            with reading(case.root / name):
                _refuse_inside(layout, (case.root / name).resolve(), f"{case.root / name}, a file of {case.case_id},")


def check_destination(scans: Sequence[NoiseEntry], output_dir: str | Path, destination: str | Path) -> None:
    """Refuse to restore among the files of the output, or into the dataset that the output was made of.

    Args:
        scans: records of the scans to restore.
        output_dir: the output.
        destination: folder for the restored dataset.

    Raises:
        OutputError: naming the folder, and what would be a way out.
    """
    layout, target = Layout(output_dir), Path(destination)
    with reading(target):
        here, root = target.resolve(), layout.root.resolve()
        taken = _resolved(*(layout.root / name for name in OWN))
        if here == root or taken.intersection((here, *here.parents)):
            reason = f"the destination lies inside the output {layout.root}, among its own files"
            raise OutputError(f"{reason}; choose a folder beside them", file=target)
        if _is_restored(target / layout.datalist.name):
            return
        for folder, entries in ((here, scans), *((above, scans[:1]) for above in here.parents)):
            found = next((entry.file for entry in entries if _is_original(folder / entry.file, entry)), None)
            if found is not None:
                reason = f"the originals are in {folder}: {found}; what is restored would replace or join them"
                raise OutputError(f"{reason}. {ELSEWHERE.capitalize()}", file=target)


def _is_restored(datalist: Path) -> bool:
    """Whether a datalist is one that a restoration begins with, rather than the dataset's own."""
    try:
        return datalist.read_bytes() == encode_datalist(json.loads(datalist.read_bytes())["training"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_original(path: Path, entry: NoiseEntry) -> bool:
    """Whether a scan is the original of an entry: a file, several that belong together, or a volume in a folder."""
    try:
        return digest_of(path) == entry.file_sha256
    except ScanError:
        return False


def _resolved(*paths: Path) -> set[Path]:
    return {path.resolve() for path in paths}


def _folders(dataset: Path) -> list[Path]:
    """A dataset, and the folders that links in it lead to."""
    found = [path for path in dataset.iterdir() if path.is_symlink() and path.is_dir()] if dataset.is_dir() else []
    return [path.resolve() for path in (dataset, *found)]


def _refuse_inside(layout: Layout, path: Path, what: str) -> None:
    """Refuse what lies in an output, except for the originals that a run has put there itself."""
    kept = _resolved(layout.unpacked, layout.fetched)
    if layout.root.resolve() in path.parents and not kept.intersection((path, *path.parents)):
        raise OutputError(f"{what} lies inside the output, which it must not; {ELSEWHERE}", file=layout.root)


def _may_be_data(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() in LISTS:
        return not path.name.startswith(".")
    try:
        find_format(path)  # folders too
        return True
    except ScanError:
        return False
