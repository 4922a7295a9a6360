# SPDX-License-Identifier: Apache-2.0
"""Full disks, vanished shares, two runs at once: one clear error, nothing half-written, and the next run goes on."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import Case, LoadedCase, load_cases, read_scan
from monai_unlearnable.errors import LabelError, OutputError, ScanError, UnlearnableError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.perturbers import GradientNoise, Perturber, RandomNoise
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.admission import admit
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.utils.locks import lock, unlock
from tests import dicom
from tests.helpers import (
    put_voxels,
    random_image,
    small_surrogate,
    small_umed,
    stored_voxels,
    tree,
    two_classes,
    write_dataset,
    write_nifti,
)

KEY = OwnerKey(bytes(range(32)))
CHECK = "import sys, pathlib; from monai_unlearnable.utils.locks import lock; lock(pathlib.Path(sys.argv[1]))"
FAULTS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE)


def protect(data: Path, out: Path, key: OwnerKey | None = None, overwrite: bool = False) -> None:
    cases, noise, window = load_cases(data), RandomNoise(0.05), PercentileWindow()
    Publication(cases, noise, out, window, Budget(0.05), key=key, overwrite=overwrite).run()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = write_dataset(tmp_path / "data", names=("a", "b", "c"))
    dicom.write_series(root / "images" / "d", random_image((8, 7, 2), "int16"))  # each slice is read several times
    dicom.write_label(root / "images" / "d", root / "labels" / "d.nii.gz", two_classes((8, 7, 2)))
    return root


class Faulty:
    """``os.replace`` and ``os.fsync``, which fail once they were called so many times."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int, number: int) -> None:
        self.left, self.number, self.raised = after, number, False
        for name in ("replace", "fsync"):
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, call: Callable[..., None]) -> Callable[..., None]:
        def faulty(*arguments: object) -> None:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise OSError(self.number, os.strerror(self.number))
            call(*arguments)

        return faulty


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_a_run_that_a_fault_stopped_goes_on_to_the_same_bytes(data: Path, tmp_path: Path, key: OwnerKey | None) -> None:
    protect(data, tmp_path / "whole", key)
    whole, out = tree(tmp_path / "whole"), tmp_path / "out"
    stops, after = 0, 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            fault = Faulty(patch, after, FAULTS[stops % len(FAULTS)])
            try:
                protect(data, out, key)
            except OutputError as error:
                assert str(out) in str(error) and os.strerror(fault.number) in str(error)
        assert not list(out.rglob("*.part")), "nothing half-written stays"
        if not fault.raised:
            break
        stops, after = stops + 1, after + 1
    assert stops > 10 and tree(out) == whole


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EBUSY])
def test_an_output_that_cannot_be_deleted_is_one_error_and_stays_whole(
    number: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the files belong to somebody else."""
    out = tmp_path / "out"
    protect(data, out)
    before = tree(out)

    def refused(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        with pytest.raises(OutputError, match=r"cannot be deleted") as caught:
            protect(data, out, overwrite=True)
    assert caught.value.file == out / "noise" / "manifest.json"
    assert tree(out) == before
    verify(out)


@pytest.mark.parametrize("word", ["apply", "restore"])
def test_what_puts_noise_on_or_takes_it_off_can_be_run_again(data: Path, tmp_path: Path, word: str) -> None:
    protect(data, tmp_path / "out")

    def run(target: Path) -> None:
        if word == "apply":
            apply_stored(tmp_path / "out" / "noise", data, target, overwrite=True)
        else:
            restore(tmp_path / "out", target, overwrite=True)

    run(tmp_path / "whole")
    for after in range(0, 12, 3):
        with pytest.MonkeyPatch.context() as patch:
            fault = Faulty(patch, after, errno.ENOSPC)
            with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
                run(tmp_path / "target")
            assert fault.raised
    run(tmp_path / "target")
    assert tree(tmp_path / "target") == tree(tmp_path / "whole")


def test_originals_that_vanish_in_the_middle_are_an_error_and_no_loss(data: Path, tmp_path: Path) -> None:
    cases, gone = load_cases(data), data / "images" / "c.nii.gz"
    content = gone.read_bytes()
    gone.unlink()
    protection = Publication(cases, RandomNoise(0.05), tmp_path / "out", PercentileWindow(), Budget(0.05))
    with pytest.raises(UnlearnableError, match=r"c\.nii\.gz.*does not exist"):
        protection.run()
    assert (tmp_path / "out" / "noise" / "images" / "b.npz").is_file(), "what was made stays"
    gone.write_bytes(content)
    protect(data, tmp_path / "out")
    verify(tmp_path / "out", data)


class Unreadable:
    """What looks at files below a folder: it fails from the n-th look on for the file that this is at.

    ``file`` is that file, once there was so many a look.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, after: int, number: int) -> None:
        self.folder, self.left, self.number, self.file = str(folder), after, number, ""
        for module, name in ((io, "open"), (os, "stat"), (os, "scandir"), (os, "listdir")):
            patch.setattr(module, name, self._wrapped(getattr(module, name)))

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, (str, os.PathLike)) and str(path).startswith(self.folder):
                self.left -= 1
                if self.left < 0 and self.file in ("", str(path)):
                    self.file = str(path)
                    raise OSError(self.number, os.strerror(self.number), str(path))
            return call(path, *arguments, **options)

        return faulty


USES: dict[str, Callable[[Path, Path, Path], Any]] = {
    "protect": lambda data, whole, out: protect(data, out),
    "apply": lambda data, whole, out: apply_stored(whole / "noise", data, out, overwrite=True),
    "restore": lambda data, whole, out: restore(whole, out, overwrite=True),
    "verify": lambda data, whole, out: verify(whole),
    "verify originals": lambda data, whole, out: verify(whole, data),
    "audit": lambda data, whole, out: audit(whole / "protected", whole / "statement.json"),
}


READS = [*((use, errno.EIO) for use in USES if use != "protect"), ("protect", errno.ESTALE)]


@pytest.mark.parametrize(("use", "number"), READS)
def test_whatever_cannot_be_read_is_named(data: Path, tmp_path: Path, use: str, number: int) -> None:
    for name in "bc":  # a file and a series are enough: each look at a file is another run
        for folder in ("images", "labels"):
            (data / folder / f"{name}.nii.gz").unlink()
    whole, out = tmp_path / "whole", tmp_path / "out"
    protect(data, whole)
    before, folder = tree(whole), data if use in ("protect", "apply", "verify originals") else whole
    USES[use](data, whole, tmp_path / "usual")
    usual, after = tree(tmp_path / "usual"), 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            fault = Unreadable(patch, folder, after, number)
            try:
                USES[use](data, whole, out)
                passes = not fault.file or fault.file.endswith("/models")  # folders that need not be there
                assert passes or tree(out) == usual != {}, f"{fault.file} was passed over"
            except UnlearnableError as error:
                assert fault.file in str(error) and os.strerror(number) in str(error)
        assert not list(tmp_path.rglob("*.part")) and tree(whole) == before
        if not fault.file:
            break
        after += 1
    assert after > 10 and tree(out) == usual, "what was stopped goes on to the same bytes"


def test_a_slice_that_cannot_be_opened_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"slice{index}" for index in range(6)]  # what they are is known from their content alone
    series = dicom.write_series(tmp_path / "images" / "d", random_image((8, 7, 6), "int16"), names=names)
    assert read_scan(series).voxels.shape == (1, 8, 7, 6)
    real = io.open

    def fails_once(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith("slice0"):
            monkeypatch.undo()
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(io, "open", fails_once)
    with pytest.raises(ScanError, match=f"slice0: cannot be read: .*{os.strerror(errno.EIO)}"):
        read_scan(series)


def test_a_case_that_cannot_be_read_is_skipped_where_that_is_wished(tmp_path: Path) -> None:
    cases = load_cases(write_dataset(tmp_path / "data", names=("a", "b", "c")))
    (tmp_path / "data/images/b.nii.gz").unlink()
    (tmp_path / "data/labels/c.nii.gz").unlink()
    admitted = admit(cases, PercentileWindow())
    assert admitted.cases == cases[:1]
    for name, reason in admitted.reasons.items():
        assert name in reason and "does not exist" in reason


@pytest.mark.parametrize("word", ["image", "label"])
def test_a_file_that_is_replaced_during_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """Each file is published as it was measured, or the run says that it was replaced."""
    file, real = data / f"{word}s" / "b.nii.gz", publication.read_case
    other = write_dataset(tmp_path / "other", names=("x", "b"), first_seed=5) / f"{word}s" / "b.nii.gz"
    put_voxels(other, stored_voxels(other)[::-1])

    def replaced(case: Case, *arguments: Any) -> LoadedCase:
        loaded = real(case, *arguments)
        if case.case_id == "images/b":
            shutil.copyfile(other, file)
        return loaded

    monkeypatch.setattr(publication, "read_case", replaced)
    if word == "image":  # was in memory already
        protect(data, tmp_path / "out")
        verify(tmp_path / "out")
    else:
        with pytest.raises(LabelError, match=r"images/b, .*labels.b\.nii\.gz: the label was replaced while"):
            protect(data, tmp_path / "out")
    monkeypatch.undo()
    protect(data, tmp_path / "out", overwrite=word == "image")
    verify(tmp_path / "out", data)
    protect(data, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("make", [small_umed, lambda: GradientNoise([small_surrogate("UNet", 3)])])
def test_a_file_that_became_one_of_another_kind(data: Path, tmp_path: Path, make: Callable[[], Perturber]) -> None:
    cases = load_cases(data)
    write_nifti(data / "images/b.nii.gz", random_image((11, 14, 9, 2)))
    with pytest.raises(ScanError, match=r"images/b, .*b\.nii\.gz: in_channels is 2, and 1 where the method was made"):
        Publication(cases, make(), tmp_path / "out", PercentileWindow(), Budget(0.1)).run()


def locked_by_another(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder until its input ends."""
    code = "import sys; from pathlib import Path; from monai_unlearnable.utils.locks import lock; "
    code += f"lock(Path({str(folder)!r})); print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "locked\n"
    return other


def test_two_runs_do_not_write_to_one_output(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked_by_another(out) as other:
        with pytest.raises(OutputError, match="another run is writing here"):
            protect(data, out)
        assert not tree(out)
        other.kill()
    protect(data, out)
    with locked_by_another(out) as other:
        with pytest.raises(OutputError, match="another run is writing here"):
            protect(data, out, overwrite=True)
        verify(out, data)  # nothing was touched
        other.kill()


def test_apply_into_its_own_folder_and_new_folders_of_the_same_name_are_locked_too(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    protect(data, out)
    with locked_by_another(out) as other:
        with pytest.raises(OutputError, match="another run is writing here"):
            apply_stored(out / "noise", data, out)
        other.kill()
    apply_stored(out / "noise", data, out)
    lock(out)
    shutil.rmtree(out)
    lock(out)  # another folder by now
    check = subprocess.run([sys.executable, "-c", CHECK, str(out)], capture_output=True, text=True, check=False)
    assert "another run is writing here" in check.stderr
    unlock(out)


def test_a_process_locks_as_often_as_it_likes(tmp_path: Path) -> None:
    for _ in range(2):
        lock(tmp_path / "out")
    unlock(tmp_path / "out")
    with locked_by_another(tmp_path / "out") as other:
        unlock(tmp_path / "out")  # what it does not hold
        with pytest.raises(OutputError, match="another run"):
            lock(tmp_path / "out")
        other.kill()
    lock(tmp_path / "out")
    unlock(tmp_path / "out")
