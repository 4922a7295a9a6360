# SPDX-License-Identifier: Apache-2.0
"""Archives where folders are expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from monai_unlearnable.crypto import Key
from monai_unlearnable.data.medmnist import archive_images, pack_archive, unpack_archive
from monai_unlearnable.data.scan import voxel_digest
from monai_unlearnable.errors import NoiseError, SkippedCasesError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.statement import encode_statement, is_packed, write_statement
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.files import remove, write_atomic

__all__ = ["is_archive", "protected_archive"]


def is_archive(dataset: str | Path) -> bool:
    """Whether a dataset is given as an ``.npz`` file rather than as a folder."""
    return Path(dataset).suffix.lower() == ".npz" and not Path(dataset).is_dir()


@contextmanager
def protected_archive(
    archive: str | Path, output_dir: str | Path, overwrite: bool = False, key: Key | None = None, resume: bool = True
) -> Iterator[Path]:
    """Unpack an archive, let its folder be protected, and publish the archive with the protected images.

    Args:
        archive: MedMNIST archive, see :mod:`monai_unlearnable.data.medmnist`.
        output_dir: output with ``unpacked/``, which is not published, and at the end the archive in ``protected/``.
        overwrite: whether other files in ``unpacked/`` may be replaced.
        key: the owner's key; with it the originals are unpacked to a temporary folder instead.
        resume: whether an output of the same archive that lacks only the archive may be opened again to go on.

    Yields:
        The folder to protect to ``output_dir``.

    Raises:
        DatalistError: naming the archive, when it cannot be used.
        OutputError: naming the file, when another archive was unpacked there, or a file cannot be written.
        SkippedCasesError: naming the skipped cases: if packed, their originals would be published.
    """
    source, layout = Path(archive), Layout(output_dir)
    target = layout.protected / source.name
    with nullcontext(layout.unpacked) if key is None else TemporaryDirectory() as temporary:
        folder = unpack_archive(source, Path(temporary), overwrite)
        is_first = distributed.rank() == 0  # of processes that work together: it packs for all
        goes_on = is_first and resume and not overwrite and _lacks_archive(layout, source, key)
        with _opened_again(layout) if goes_on else nullcontext():
            try:
                yield folder
            except SkippedCasesError as error:
                reason = f"{error.reason}; {source.name} was not packed: it would publish the originals of these. "
                reason += f"Mend them and run again, or publish them: pack {source} {layout.protected} {target}"
                raise SkippedCasesError(reason, case=error.case, file=error.file) from error
    if is_first:
        with layout.locked():
            pack_archive(source, layout.protected, target, overwrite=True)
            write_statement(Manifest.load(layout.manifest, key), layout, key)


def _lacks_archive(layout: Layout, source: Path, key: Key | None) -> bool:
    """Whether an output is complete except for its archive, or for the archive's mention in the statement."""
    try:
        manifest = Manifest.load(layout.manifest, key)
    except NoiseError:
        return False
    originals = {name: voxel_digest(voxels) for name, voxels in archive_images(source)}
    if any(originals.get(entry.file) != entry.clean_sha256 for entry in manifest.scans):
        return False
    statement = layout.statement.read_bytes() if layout.statement.is_file() else b""
    return not is_packed(layout.protected / source.name, manifest) or (
        statement != encode_statement(manifest, layout, key)
    )


@contextmanager
def _opened_again(layout: Layout) -> Iterator[None]:
    """Move the record of a run away, so that the run goes on; if it does not finish, the record is put back."""
    with layout.locked():
        records = {path: path.read_bytes() for path in (*layout.records, layout.statement) if path.is_file()}
        try:
            for path in records:
                remove(path)
            yield
        finally:
            for path, content in ({} if layout.records else records).items():
                write_atomic(path, content)
