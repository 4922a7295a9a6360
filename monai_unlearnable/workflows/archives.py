# SPDX-License-Identifier: Apache-2.0
"""Archives where folders are expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_unlearnable.scans.medmnist import pack_archive, unpack_archive
from monai_unlearnable.workflows.layout import Layout

__all__ = ["is_archive", "protected_archive"]


def is_archive(dataset: str | Path) -> bool:
    """Whether a dataset is given as an ``.npz`` file rather than as a folder."""
    return Path(dataset).suffix.lower() == ".npz" and not Path(dataset).is_dir()


@contextmanager
def protected_archive(archive: str | Path, output_dir: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Unpack an archive, let its folder be protected, and publish the archive with the protected images.

    Args:
        archive: see :mod:`monai_unlearnable.scans.medmnist`.
        output_dir: gets ``unpacked/``, which is not published, and at the end the archive in ``protected/``.
        overwrite: whether other files in ``unpacked/`` may be replaced.

    Yields:
        The folder to protect to ``output_dir``.

    Raises:
        DatalistError: naming the archive, when it cannot be used.
        OutputError: naming the file, when another archive was unpacked there, or a file cannot be written.
    """
    source, layout = Path(archive), Layout(Path(output_dir))
    yield unpack_archive(source, layout.unpacked, overwrite)
    pack_archive(source, layout.protected, layout.protected / source.name, overwrite=True)
