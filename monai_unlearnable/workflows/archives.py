# SPDX-License-Identifier: Apache-2.0
"""Archives where folders are expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from monai_unlearnable.noise import Manifest
from monai_unlearnable.noise.vault import Key
from monai_unlearnable.scans.medmnist import pack_archive, unpack_archive
from monai_unlearnable.workflows.layout import Layout
from monai_unlearnable.workflows.statement import write_statement

__all__ = ["is_archive", "protected_archive"]


def is_archive(dataset: str | Path) -> bool:
    """Whether a dataset is given as an ``.npz`` file rather than as a folder."""
    return Path(dataset).suffix.lower() == ".npz" and not Path(dataset).is_dir()


@contextmanager
def protected_archive(
    archive: str | Path, output_dir: str | Path, overwrite: bool = False, key: Key | None = None
) -> Iterator[Path]:
    """Unpack an archive, let its folder be protected, and publish the archive with the protected images.

    Args:
        archive: see :mod:`monai_unlearnable.scans.medmnist`.
        output_dir: gets ``unpacked/``, which is not published, and at the end the archive in ``protected/``.
        overwrite: whether other files in ``unpacked/`` may be replaced.
        key: the owner's; with one the originals are unpacked to a temporary folder instead.

    Yields:
        The folder to protect to ``output_dir``.

    Raises:
        DatalistError: naming the archive, when it cannot be used.
        OutputError: naming the file, when another archive was unpacked there, or a file cannot be written.
    """
    source, layout = Path(archive), Layout(Path(output_dir))
    with nullcontext(layout.unpacked) if key is None else TemporaryDirectory() as folder:
        yield unpack_archive(source, Path(folder), overwrite)
    pack_archive(source, layout.protected, layout.protected / source.name, overwrite=True)
    write_statement(Manifest.load(layout.manifest, key), layout, key)
