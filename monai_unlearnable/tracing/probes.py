# SPDX-License-Identifier: Apache-2.0
"""Probes: labeled scans that a mark is put on, as files of their own formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import Case, LabelGeometry, LoadedCase, list_dataset, read_case
from monai_unlearnable.data.cases import check_alike
from monai_unlearnable.data.formats import output_name, stem, write_scan
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.perturbers import InputSettings, Perturber
from monai_unlearnable.perturbers.inference import generate_noise
from monai_unlearnable.utils.files import file_digest, fingerprint
from monai_unlearnable.utils.progress import track

__all__ = ["FIRST_CHANNEL", "Probes", "Query", "query_digest"]

FIRST_CHANNEL = "_0000"  # in the names of files, as nnU-Net has them


@dataclass(frozen=True)
class Query:
    """A probe as a model gets it.

    Args:
        name: its name, which tells nothing.
        files: its files, one a scan of the case.
    """

    name: str
    files: tuple[Path, ...]


class Probes:
    """Labeled scans of the owner.

    Args:
        dataset_dir: folder of the scans, with labels.
        settings: window and label values of the protected set.
        datalist: list of the scans; by default what is found in the folder.
        max_cases: largest number of scans; of more, some are taken at equal distances.
        cache_gib: memory for scans that are kept, in GiB.

    Raises:
        UnlearnableError: naming the case, when a scan cannot be read, has no label, or is unlike the others.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        settings: InputSettings,
        datalist: str | Path | None = None,
        max_cases: int = 40,
        cache_gib: float = 1.0,
    ) -> None:
        self.settings, self.cache_gib = settings, cache_gib
        cases = list(list_dataset(dataset_dir, datalist).cases)
        step = -(-len(cases) // max_cases)
        self.cases: Sequence[Case] = cases[::step]
        self._kept: dict[int, LoadedCase] = {}
        self._held = 0
        self.labels: list[NDArray | int] = []
        self.digests: list[str] = []
        first: LoadedCase | None = None
        for index, case in enumerate(track(self.cases, "reading probe")):
            loaded = self.load(index)
            first = first or loaded
            check_alike(case, loaded.image.shape, first.image.shape, "the other probes")
            if isinstance(loaded.target, tuple):
                raise LabelError("probes with several labels cannot be asked about", case=case.case_id)
            if loaded.target is None:
                raise LabelError("a probe needs a label", case=case.case_id, file=case.root / case.images[0])
            self.labels.append(loaded.target)
            self.digests.append(fingerprint([scan.digest() for scan in loaded.scans]))
        if isinstance(self.labels[0], int) != (self.settings.label_values is None):
            raise InputError("the probes are for another task than the protected set", file=dataset_dir)

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def are_maps(self) -> bool:
        """Whether labels are maps."""
        return not isinstance(self.labels[0], int)

    @cached_property
    def names(self) -> list[str]:
        """Names that tell nothing about the scans."""
        return [f"probe{number:04d}" for number in range(1, len(self) + 1)]

    def load(self, index: int) -> LoadedCase:
        """A probe; read once where memory allows."""
        if index in self._kept:
            return self._kept[index]
        loaded = read_case(self.cases[index], self.settings.window, self.settings.label_values, LabelGeometry.IGNORE)
        size = sum(scan.voxels.nbytes for scan in loaded.scans)
        if self._held + size <= self.cache_gib * 2**30:
            self._kept[index], self._held = loaded, self._held + size
        return loaded

    def write(self, mark: Perturber | None, folder: Path, names: Sequence[str] | None = None) -> list[Query]:
        """Write all probes with a mark.

        Args:
            mark: perturber that makes it; None for probes without one.
            folder: folder to write to.
            names: names of the files; by default :attr:`names`.

        Raises:
            UnlearnableError: naming the case, when the mark cannot be put on it.
        """
        return [self._write(index, mark, folder, name) for index, name in enumerate(names or self.names)]

    def _write(self, index: int, mark: Perturber | None, folder: Path, name: str) -> Query:
        loaded = self.load(index)
        files = []
        for number, (voxels, scan) in enumerate(zip(self._voxels(loaded, mark), loaded.scans, strict=True)):
            published = output_name(scan.path.name)
            path = folder / f"{name}_{number:04d}{published[len(stem(published)) :]}"
            write_scan(scan, voxels, path)
            files.append(path)
        return Query(name, tuple(files))

    def _voxels(self, loaded: LoadedCase, mark: Perturber | None) -> list[NDArray]:
        """The voxels of each scan with a mark."""
        if mark is None:
            return [scan.voxels for scan in loaded.scans]
        placed = mark.for_grid(loaded.grid_after(mark.crop))
        noise = generate_noise(placed, loaded.image, loaded.case.case_id, loaded.target)
        return [voxels for voxels, _ in loaded.with_noise(noise, Budget(mark.epsilon))]


def query_digest(query: Query) -> str:
    """SHA-256 of the files of a query."""
    return fingerprint([file_digest(path) for path in query.files])
