# SPDX-License-Identifier: Apache-2.0
"""No output replaces or joins originals, and no run ends without an effect unless it says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

import monai_unlearnable as mu
from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, main
from monai_unlearnable.errors import BudgetError, InputError, OutputError
from monai_unlearnable.training import ProtectionTrainer
from tests import dicom
from tests.helpers import tree, write_class_folders, write_datalist, write_dataset


def refuses(capsys: pytest.CaptureFixture[str], root: Path, words: list[str], *expected: str) -> None:
    """A command that ends in one line with these words, and has written nothing."""
    before = tree(root)
    assert main(words) == WRONG_INPUT
    printed = capsys.readouterr().err
    assert all(word in printed for word in expected) and printed.count("\n") == 1, printed
    assert tree(root) == before, "nothing is written"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def linked(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target, target_is_directory=True)
    return path


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "the dataset": (lambda root: root / "data", "inside the dataset"),
    "in the dataset": (lambda root: root / "data" / "out", "inside the dataset"),
    "above the dataset": (lambda root: root, "lies inside the output"),
    "by a link": (lambda root: linked(root / "link", root / "data") / "out", "inside the dataset"),
    "linked inside": (lambda root: linked(root / "out" / "protected", root / "data").parent, "inside the dataset"),
    "another dataset": (lambda root: write_dataset(root / "other", names=("c",)), "it holds images, labels"),
    "an archive": (lambda root: shutil.copytree(root / "data" / "images", root / "scans"), "it holds a.nii.gz"),
}


@pytest.mark.parametrize("place", PLACES)
def test_outputs_lie_beside_data(place: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, reason = PLACES[place]
    out = make(tmp_path)
    for more in ([], ["--overwrite"]):
        refuses(capsys, tmp_path, ["protect", "lattice", str(data), str(out), *more], str(out), reason, "choose a")


def test_links_of_a_dataset_are_followed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "labels"):
        linked(tmp_path / "links" / folder, data / folder)
    out = data / "images" / "out"
    words = ["protect", "lattice", str(tmp_path / "links")]
    refuses(capsys, tmp_path, [*words, str(out)], "inside the dataset", "choose a")
    for name in ("images/a.nii.gz", "labels/a.nii.gz"):
        (tmp_path / "single" / name).parent.mkdir(parents=True)
        (tmp_path / "single" / name).symlink_to(shutil.copy(data / name, tmp_path / f"{Path(name).parent}.nii.gz"))
    (tmp_path / "protected").mkdir()  # an earlier output, as it looks
    words = ["protect", "lattice", str(tmp_path / "single"), str(tmp_path)]
    refuses(capsys, tmp_path, words, "lies inside the output")
    assert main(["protect", "lattice", str(tmp_path / "links"), str(tmp_path / "out")]) == 0


def test_what_may_be_used_again(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "log.txt").write_text("of a job")
    words = ["protect", "lattice", str(data), str(out)]
    assert main(words) == 0
    (out / "noise" / "manifest.json").unlink()  # as if it had been stopped
    assert main(words) == main([*words, "--overwrite"]) == 0
    assert main(["apply", str(out / "noise"), str(data), str(out)]) == 0
    capsys.readouterr()
    again = shutil.copy(out / "protected" / "datalist.json", out / "noise")
    listed = [*words, "--overwrite", "--datalist"]
    refuses(capsys, tmp_path, [*listed, str(again)], "datalist.json lies inside the output", "choose a")
    refuses(capsys, tmp_path, ["apply", str(out / "noise"), str(data), str(data)], "inside the dataset")


def test_nothing_is_restored_into_originals_or_outputs(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_datalist(data, [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in "ab"])
    out, restored = tmp_path / "out", tmp_path / "restored"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    capsys.readouterr()
    for more in ([], ["--overwrite"]):
        for place in (data, data / "restored", linked(tmp_path / f"link{len(more)}", data)):
            refuses(
                capsys, tmp_path, ["restore", str(out), str(place), *more], "the originals are in", "Choose a folder"
            )
        for place in (out, out / "protected", out / "noise" / "restored"):
            refuses(capsys, tmp_path, ["restore", str(out), str(place), *more], "inside the output", "choose a folder")
    assert main(["restore", str(out), str(restored)]) == main(["restore", str(out), str(restored), "--overwrite"]) == 0
    (restored / "images" / "a.nii.gz").unlink()  # as if it had been stopped
    assert main(["restore", str(out), str(restored), "--overwrite"]) == 0


@pytest.mark.parametrize("kind", ["mhd", "series"])
def test_originals_of_several_files_are_known(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dicom.write_dataset(tmp_path / "data") if kind == "series" else write_dataset(tmp_path / "data")
    for file in data.rglob("*.nii.gz") if kind == "mhd" else ():
        sitk.WriteImage(sitk.ReadImage(file), file.with_name(file.name.replace(".nii.gz", ".mhd")))
        file.unlink()
    out = tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    capsys.readouterr()
    for place in (data, data / "restored"):
        words = ["restore", str(out), str(place), "--overwrite"]
        refuses(capsys, tmp_path, words, "the originals are in", "Choose a folder")
    assert main(["restore", str(out), str(tmp_path / "restored")]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--epsilon", "0"], "epsilon is 0: nothing would be changed"),
        (["--epochs", "0"], "epochs is 0; give 1 or more"),
        (["--epoch_length", "0"], "epoch_length is 0"),
    ],
)
def test_settings_without_effect(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    refuses(capsys, tmp_path, ["protect", "umed", str(data), str(tmp_path / "out"), *settings], message)


def test_fractions_and_classes_without_effect(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    with pytest.raises(BudgetError, match=r"less than one of 1386 voxels: nothing would change"):
        mu.protect("salm", data, tmp_path / "out", fraction=1e-5, epochs=1)
    single = write_class_folders(tmp_path / "classes", counts=(3, 0))
    entries = [{"image": path.relative_to(single).as_posix(), "label": 0} for path in sorted(single.rglob("*.png"))]
    write_datalist(single, entries)
    with pytest.raises(InputError, match="all images are of class 0, which is left unperturbed"):
        mu.protect("lattice", single, tmp_path / "out")
    with pytest.raises(InputError, match="at least 1"):
        ProtectionTrainer("cpu", 0, [], None, None, None)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_unchanged_scans_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple("abcdefgh")
    data, out = write_dataset(tmp_path / "data", names=names, empty=names[:6]), str(tmp_path / "out")
    ending = "6 of 8 scans are unchanged: images/a, images/b, images/c, images/d, images/e, ...\n"
    for words in (["protect", "lattice", str(data), out], ["verify", out], ["apply", f"{out}/noise", str(data), out]):
        assert main(words) == 0
        assert capsys.readouterr().out.endswith(ending)
    assert main(["verify", out, "--json"]) == 0
    assert '"images/f"' in capsys.readouterr().out


def test_a_run_that_changed_nothing_is_an_error(data: Path, tmp_path: Path) -> None:
    support = {"_target_": "monai_unlearnable.masks.OfClasses", "kinds": [7]}
    out = tmp_path / "out"
    with pytest.raises(BudgetError, match="no voxel of any scan was changed"):
        mu.protect("lattice", data, out, **{"masks#support": support})
    assert not any(path.is_file() for folder in ("protected", "noise") for path in (out / folder).rglob("*"))
    assert not (out / "statement.json").exists()
    mu.protect("lattice", data, out)  # the same folder, without overwrite
    mu.verify(out, data)


def test_withdrawn_cases_do_not_stay_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data", names=("a", "b", "p9/c")), tmp_path / "out"
    assert main(["protect", "lattice", str(data), str(out)]) == 0
    published = out / "protected"
    (published / "README.md").write_text("of the owner")
    for folder in ("images", "labels"):
        shutil.rmtree(data / folder / "p9")
    assert main(["statement", str(out)]) == main(["protect", "lattice", str(data), str(out), "--overwrite"]) == 0
    assert not list(out.rglob("p9*")), "neither its files nor its name"
    assert (published / "README.md").read_text() == "of the owner"
    assert main(["verify", str(out)]) == main(["audit", str(published), str(out / "statement.json")]) == 0


@pytest.mark.parametrize("end", ["protect", "apply", "skipped"])
def test_other_files_among_the_published_ones_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    out, strangers = tmp_path / "out", [tmp_path / "out/protected/images" / f"x{index}.nii.gz" for index in range(4)]
    words = ["protect", "lattice", str(data), str(out)]
    if end == "apply":
        assert main(words) == 0
        words = ["apply", str(out / "noise"), str(data), str(out := tmp_path / "again")]
        strangers = [out / path.relative_to(tmp_path / "out") for path in strangers]
    if end == "skipped":
        shutil.copy(data / "labels/a.nii.gz", data / "labels/c.nii.gz")
        (data / "images/c.nii.gz").write_bytes(b"broken")
        words += ["--skip_invalid", "true"]
    for path in strangers:  # as a stopped run on another dataset leaves them
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images/a.nii.gz", path)
    capsys.readouterr()
    assert main(words) == CHECK_FAILED
    printed = capsys.readouterr()
    assert "images/x0.nii.gz" in printed.err and "and 1 more; remove them" in printed.err
    assert "to publish" not in printed.out and all(path.exists() for path in strangers)
    for path in strangers:
        path.unlink()
    assert main(["verify", str(out)]) == 0


def test_a_laboratory_is_not_kept_in_a_dataset(data: Path, tmp_path: Path) -> None:
    test = write_dataset(tmp_path / "test", names=("x",), first_seed=5)
    from monai_unlearnable.proof import prepare_laboratory

    for place in (data, data / "lab"):
        with pytest.raises(OutputError, match="inside the dataset"):
            prepare_laboratory(data, place, {"it": data}, test_dir=str(test))
    assert not (data / "lab").exists()
