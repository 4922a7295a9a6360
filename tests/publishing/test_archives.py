# SPDX-License-Identifier: Apache-2.0
"""An archive goes in, the protected archive comes out, and the words of the command line know both."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_unlearnable.cli import CHECK_FAILED, INTERRUPTED, WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import VerificationError
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.publishing import archives
from monai_unlearnable.publishing.verify import verify
from tests.helpers import random_image, stored_voxels, tree

METHOD = """
bundle_root: .
dataset_dir: .
output_dir: .
overwrite: false
window:
  _target_: monai_unlearnable.intensity.PercentileWindow
skip_invalid: false
key: null
seed: 0
protection:
  _target_: monai_unlearnable.publishing.protect.Protection
  dataset_dir: '@dataset_dir'
  output_dir: '@output_dir'
  overwrite: '@overwrite'
  skip_invalid: '@skip_invalid'
  key: '@key'
  epsilon: 0.05
  window: '@window'
perturber:
  _target_: monai_unlearnable.perturbers.RandomNoise
  epsilon: 0.05
  seed: '@seed'
  support:
    _target_: monai_unlearnable.masks.Everywhere
run:
  - $@protection.run(@perturber)
"""


def write_archive(path: Path, seed: int = 0) -> Path:
    images = [random_image((9, 8), "uint8", seed + index) for index in range(6)]
    labels = np.array([[1], [0], [2]], np.uint8)
    np.savez(path, train_images=images[:3], train_labels=labels, test_images=images[3:], test_labels=labels)
    return path


def read_archive(path: Path) -> dict[str, NDArray]:
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


@pytest.fixture
def method(tmp_path: Path) -> str:
    folder = tmp_path / "bundle" / "configs"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    (folder / "protect.yaml").write_text(METHOD)
    return str(folder / "protect.yaml")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "scans.npz")


@pytest.fixture
def out(method: str, archive: Path, tmp_path: Path) -> Path:
    assert main(["protect", method, str(archive), str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_the_archive_is_published_with_protected_training_images(archive: Path, out: Path) -> None:
    clean, published = read_archive(archive), read_archive(out / "protected" / "scans.npz")
    assert list(published) == list(clean)
    changes = {name: np.abs(published[name].astype(int) - clean[name]).max() for name in clean}
    assert 0 < changes.pop("train_images") <= 0.05 * 255
    assert set(changes.values()) == {0}
    names = sorted(tree(out / "protected"))
    assert names == ["datalist.json", "scans.npz", *(f"train/{index:05d}.png" for index in range(3))]
    assert np.array_equal(published["train_images"][2], stored_voxels(out / "protected" / "train/00002.png"))
    assert [case.target for case in load_cases(out / "protected")] == [1, 0, 2]
    assert len(load_cases(out / "unpacked", section="test")) == 3


def test_verify_restore_apply_and_pack(archive: Path, out: Path, tmp_path: Path) -> None:
    assert main(["verify", str(out)]) == main(["verify", str(out), "--clean", str(archive)]) == 0
    assert main(["apply", str(out / "noise"), str(archive), str(tmp_path / "again")]) == 0
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    assert main(["restore", str(out), str(tmp_path / "back")]) == 0
    back = tmp_path / "back.npz"
    assert main(["pack", str(out / "protected" / "scans.npz"), str(tmp_path / "back"), str(back)]) == 0
    clean, restored = read_archive(archive), read_archive(back)
    assert all(np.array_equal(restored[name], array) for name, array in clean.items())


def test_verify_looks_into_the_archive(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = out / "protected" / "scans.npz"
    content = read_archive(published)
    content["train_images"][1, 4, 4] ^= 1
    np.savez(published, **content)
    with pytest.raises(VerificationError, match=r"train/00001, .*scans\.npz: SHA-256 of the protected voxels"):
        verify(out)
    assert main(["verify", str(out)]) == CHECK_FAILED
    np.savez(published, **{name: array[:1] for name, array in content.items()})
    with pytest.raises(VerificationError, match=r"train/00001, .*found None"):
        verify(out)


def test_the_laboratory_reads_what_was_unpacked_and_published(out: Path, tmp_path: Path) -> None:
    laboratory = prepare_laboratory(out / "unpacked", tmp_path / "lab", {"random": out}, control=False)
    assert [source.name for source in laboratory.sources.values()] == ["clean", "random"]
    assert [case.target for case in laboratory.sources["random"].cases] == [1, 0, 2]
    assert [case.case_id for case in laboratory.bench.test] == ["test/00000", "test/00001", "test/00002"]


def test_another_archive_is_refused_unless_asked(
    method: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, other = tree(out), str(write_archive(tmp_path / "other.npz", seed=9))
    first = out / "protected" / "scans.npz"
    words = ["protect", method, other, str(out)]
    assert main(words) == WRONG_INPUT
    assert "a file with other content exists" in capsys.readouterr().err
    assert main(["verify", str(out), "--clean", other]) == CHECK_FAILED
    assert tree(out) == before
    assert main([*words, "--overwrite"]) == 0
    assert not first.exists()  # of the run before
    verify(out)


def test_unpack_and_pack_as_words(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, packed = str(tmp_path / "folder"), str(tmp_path / "packed.npz")
    assert main(["unpack", str(archive), folder]) == main(["unpack", str(archive), folder]) == 0
    assert main(["pack", str(archive), folder, packed]) == 0
    assert all(np.array_equal(array, read_archive(archive)[name]) for name, array in read_archive(Path(packed)).items())
    capsys.readouterr()
    assert main(["pack", str(archive), folder, str(archive), "--overwrite"]) == WRONG_INPUT
    assert "would replace the original" in capsys.readouterr().err
    assert main(["unpack", folder, folder]) == WRONG_INPUT
    assert "not an .npz archive" in capsys.readouterr().err
    other = str(write_archive(tmp_path / "other.npz", seed=9))
    assert main(["unpack", other, folder]) == WRONG_INPUT
    assert main(["unpack", other, folder, "--overwrite"]) == 0


@pytest.mark.parametrize("sealed", [False, True])
def test_a_run_that_was_killed_before_the_archive_was_packed_goes_on(
    method: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    def protect(out: Path, *more: str) -> int:
        return main(["protect", method, str(archive), str(out), *key, *more])

    OwnerKey(bytes(range(32))).save(tmp_path / "owner.key")
    key = ["--key", str(tmp_path / "owner.key")] if sealed else []
    assert protect(tmp_path / "whole") == 0
    whole, out = tree(tmp_path / "whole"), tmp_path / "out"
    for function in ("pack_archive", "write_statement"):
        with monkeypatch.context() as patch:
            patch.setattr(archives, function, Mock(side_effect=KeyboardInterrupt))
            assert protect(out) == INTERRUPTED
        before = tree(out)
        assert protect(out, "--seed", "1") == WRONG_INPUT, "another run does not go on from it"
        assert tree(out) == before, "and spoils nothing"
        assert protect(out) == 0 and tree(out) == whole
        assert protect(out) == WRONG_INPUT, "it is complete"
        shutil.rmtree(out)


@pytest.mark.parametrize("sealed", [False, True])
def test_an_archive_with_an_original_left_out_is_not_packed(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], sealed: bool
) -> None:
    archive, out = write_archive(tmp_path / "scans.npz"), tmp_path / "out"
    content = read_archive(archive)
    content["train_images"][1] = 7  # no window can be found in it
    np.savez(archive, **content)
    OwnerKey(bytes(range(32))).save(tmp_path / "owner.key")
    words = ["protect", method, str(archive), str(out), "--skip_invalid", "True"]
    words += ["--key", str(tmp_path / "owner.key")] if sealed else []
    for more in ([], [], ["--overwrite"]):
        assert main([*words, *more]) == CHECK_FAILED
        error = capsys.readouterr().err
        assert "1 case was skipped and the others protected: train/00001" in error
        assert "scans.npz was not packed: it would publish the originals of these" in error
        assert f"pack {archive} {out / 'protected'}" in error
        assert sorted(tree(out / "protected")) == ["datalist.json", "train/00000.png", "train/00002.png"]
    assert main(["verify", str(out), *words[6:]]) == 0
    packed = out / "protected" / "scans.npz"
    assert main(["pack", str(archive), str(out / "protected"), str(packed)]) == 0
    assert main(["statement", str(out), *words[6:]]) == main(["verify", str(out), *words[6:]]) == 0
    assert main(words) == WRONG_INPUT and "exists already" in capsys.readouterr().err
    changed = (read_archive(packed)["train_images"] != content["train_images"]).any((1, 2))
    assert changed.tolist() == [True, False, True]
