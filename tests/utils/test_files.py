# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from monai_unlearnable.errors import OutputError
from monai_unlearnable.utils.files import read_content, remove_unfinished, write_atomic
from tests.helpers import tree


def fail(code: int):
    def call(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert tree(tmp_path) == {"deep/er/x.bin": b"two"}


def test_writes_and_replaces_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "series"
    write_atomic(path, {"a": b"one", "b": b"two"})
    write_atomic(path, {"a": b"three", "b": b"four"})
    assert read_content(path) == {"a": b"three", "b": b"four"}
    with pytest.raises(OutputError, match="series: .*other files there would be lost: b"):
        write_atomic(path, {"a": b"five"})
    assert tree(tmp_path) == {"deep/series/a": b"three", "deep/series/b": b"four"}
    assert [p.name for p in path.parent.iterdir()] == ["series"]
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode)


@pytest.mark.parametrize("call", [0, 1, 2, 3])
def test_failures_leave_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    write_atomic(tmp_path / "x", {"a": b"old", "b": b"old"})
    replace, calls = os.replace, iter(range(10))

    def failing(source: object, target: object) -> None:
        if next(calls) == call:
            fail(errno.ENOSPC)()
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match=r"x: cannot be written: No space left"):
        write_atomic(tmp_path / "x", {"a": b"new", "b": b"new"})
    assert tree(tmp_path) == {"x/a": b"old", "x/b": b"old"} and len(list(tmp_path.iterdir())) == 1


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x", b"")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("function", "code", "reason"),
    [
        ("fsync", errno.ENOSPC, "No space left"),
        ("fdopen", errno.EIO, "Input/output error"),
        ("replace", errno.EROFS, "Read-only file system"),
        ("chmod", errno.EPERM, "not permitted"),
    ],
)
def test_failures_leave_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, reason: str
) -> None:
    write_atomic(tmp_path / "x", b"old")
    monkeypatch.setattr(os, function, fail(code))
    with pytest.raises(OutputError, match=rf"x: cannot be written: .*{reason}"):
        write_atomic(tmp_path / "x", b"new")
    assert tree(tmp_path) == {"x": b"old"}


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", fail(errno.EACCES))
    with pytest.raises(OutputError, match="x: cannot be written: Permission denied"):
        write_atomic(tmp_path / "x", b"new")
    assert tree(tmp_path) == {}


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"file")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "x" / "y", b"")


def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", b"new")
    assert tree(tmp_path) == {}


def test_what_a_killed_process_leaves_is_found_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from monai_unlearnable.utils.files import write_atomic\n"
        "os.replace = lambda *names: os._exit(9)\n"
        "write_atomic(Path(sys.argv[1]), b'half')"
    )
    write_atomic(tmp_path / "a" / "whole.nii", b"1")
    for name in (".mine.part", "x.abcd1234.part", ".hidden"):
        (tmp_path / "a" / name).write_bytes(b"2")
    before = tree(tmp_path)
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a" / "b" / "scan.nii")], check=False)
    assert killed.returncode == 9 and len(tree(tmp_path)) == len(before) + 1
    remove_unfinished(tmp_path)
    assert tree(tmp_path) == before
    remove_unfinished(tmp_path / "nowhere")


def test_a_killed_process_leaves_no_half_of_a_folder(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from monai_unlearnable.utils.files import write_atomic\n"
        "fsync, calls = os.fsync, []\n"
        "os.fsync = lambda handle: os._exit(9) if calls else calls.append(fsync(handle))\n"
        "write_atomic(Path(sys.argv[1]), {'a': b'1', 'b': b'2'})"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "images" / "series")], check=False)
    assert killed.returncode == 9 and len(tree(tmp_path)) == 2 and not (tmp_path / "images" / "series").exists()
    remove_unfinished(tmp_path)
    assert not list((tmp_path / "images").iterdir())


def test_a_run_that_begins_while_another_writes_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, begun = os.fsync, []

    def begin(handle: int) -> None:
        fsync(handle)
        if not begun:
            begun.append(remove_unfinished(tmp_path))

    monkeypatch.setattr(os, "fsync", begin)
    write_atomic(tmp_path / "x", b"new")
    assert begun and tree(tmp_path) == {"x": b"new"}
