# SPDX-License-Identifier: Apache-2.0
"""What is written down about one protected scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.errors import NoiseError
from monai_unlearnable.intensity import IntensityWindow, StorageLattice
from monai_unlearnable.scans.reading import leads_outside

__all__ = ["NoiseEntry", "refuse_outside"]


@dataclass(frozen=True)
class NoiseEntry:
    """The record of one scan: which voxels the noise belongs to, what it was allowed to do, what it did.

    Args:
        scan_id: relative file name without suffix; names the noise.
        case_id: the case that the scan is part of.
        case_scans: scan ids of all files of the case, in the order of their channels.
        file: clean file, relative to the dataset.
        output: protected file, relative to ``protected/``.
        output_sha256: digest of the protected file, header and compression included.
        label: label file, relative to the dataset, or None.
        label_sha256: digest of the published label file.
        shape: channel-first shape of the stored voxels.
        affine: 4x4, row by row.
        lattice: dtype, slope and intercept of storage.
        window: intensity window.
        budget: what the noise was held to.
        clean_sha256: digest of the original voxels.
        protected_sha256: digest of the protected voxels.
        run: fingerprint of the run that made the noise.
        target: class of the whole image, counted from 0, or None; records of earlier releases have none.
        file_sha256: digest of the clean file, header included; records of earlier releases have none.
        clean_label_sha256: digest of the original label file, where it is not the one that is published.
        measured: figures computed from the files as reloaded from disk.
    """

    scan_id: str
    case_id: str
    case_scans: tuple[str, ...]
    file: str
    output: str
    output_sha256: str
    label: str | None
    label_sha256: str | None
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    lattice: StorageLattice
    window: IntensityWindow
    budget: Budget
    clean_sha256: str
    protected_sha256: str
    run: str
    target: int | None = None
    file_sha256: str | None = None
    clean_label_sha256: str | None = None
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def original_label_sha256(self) -> str | None:
        """Digest of the original label file."""
        return self.clean_label_sha256 or self.label_sha256

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> NoiseEntry:
        """The entry of a dictionary made by :meth:`to_dict`, JSON round trip included.

        Raises:
            NoiseError: when fields are missing or unknown.
        """
        try:
            values = dict(content)
            values["shape"] = tuple(int(extent) for extent in values["shape"])
            values["case_scans"] = tuple(values["case_scans"])
            values["affine"] = tuple(tuple(row) for row in values["affine"])
            values["lattice"] = StorageLattice(**values["lattice"])
            window = values["window"]
            values["window"] = IntensityWindow(tuple(window["low"]), tuple(window["high"]))
            values["budget"] = Budget(**values["budget"])
            for name in (*values["case_scans"], *(values[field] for field in ("scan_id", "file", "output", "label"))):
                refuse_outside(name)
            _refuse_no_class(values.get("target"))
            if values["scan_id"] not in values["case_scans"]:
                raise ValueError("the scan is not among those of its case")
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise KeyError(f"unknown fields {sorted(unknown)}")
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise NoiseError(f"broken noise record: {error}") from error


def refuse_outside(name: str | None) -> None:
    """Records travel with data that others may have written: a path in one must stay inside its folder.

    Raises:
        ValueError: when it does not.
    """
    if name is not None and leads_outside(name):
        raise ValueError(f"{name!r} lies outside the folder")


def _refuse_no_class(target: Any) -> None:
    if target is not None and (not isinstance(target, int) or isinstance(target, bool) or target < 0):
        raise ValueError(f"{target!r} is no class")
