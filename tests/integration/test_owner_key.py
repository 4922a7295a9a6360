# SPDX-License-Identifier: Apache-2.0
"""The owner's key as people use it: on the command line, in every bundle, through a passphrase."""

from __future__ import annotations

import io
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.crypto.encrypted import read_owned
from monai_unlearnable.crypto.keys import VARIABLE
from monai_unlearnable.data import read_scan
from monai_unlearnable.errors import InputError, KeyMismatchError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.run import bundle_names, bundle_root, run_bundle
from monai_unlearnable.publishing.verify import verify
from tests.helpers import flip_byte, tree, write_class_folders, write_dataset
from tests.integration.commands import as_words, bundle_words, command
from tests.publishing.test_owner_key import readable

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = {"epochs": 1, "epoch_length": 2, "batch_size": 2, "network_def#channels": [4, 8, 8, 8]}
SMALL = {"epochs": 1, "epoch_length": 2, "batch_size": 4, "network_def#width": 4, "steps": 2}


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """The files of two keys."""
    paths = [str(tmp_path / name) for name in ("first.key", "second.key")]
    for number, path in enumerate(paths):
        OwnerKey(bytes([number] * 32)).save(path)
    return paths


def test_the_words_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, more = write_dataset(tmp_path / "data"), write_dataset(tmp_path / "more", names=("x", "y"))
    key, other, public, ring = (str(tmp_path / name) for name in ("owner.key", "other.key", "owner.pub", "ring.json"))
    out, statement = str(tmp_path / "out"), str(tmp_path / "out/statement.json")
    assert main(["key", "new", key]) == main(["key", "new", other]) == main(["key", "public", key, public]) == 0
    assert stat.S_IMODE(Path(key).stat().st_mode) == 0o600
    assert main(["key", "new", key]) == WRONG_INPUT and "is not replaced" in capsys.readouterr().err
    assert main(["protect", "umed", str(data), out, "--key", key, *as_words(QUICK)]) == 0
    assert readable(tmp_path / "out") == ["statement.json"]
    assert main(["verify", out, "--clean", str(data), "--key", key]) == 0
    assert main(["apply", f"{out}/noise", str(data), str(tmp_path / "applied"), "--key", key]) == 0
    checkpoint = f"{out}/models/perturber.safetensors"
    assert main(["apply", f"{checkpoint}.sealed", str(more), str(tmp_path / "new"), "--key", key]) == 0
    assert main(["apply", checkpoint, str(data), str(tmp_path / "generated"), "--key", key]) == 0
    assert main(["verify", str(tmp_path / "new"), "--key", key]) == 0
    folders = [tree(tmp_path / folder / "protected") for folder in ("out", "applied", "generated")]
    assert folders[0] == folders[1] == folders[2], "three ways to the same files"
    assert main(["key", "share", key, out, "images/b", ring]) == 0
    assert "images/b.npz.sealed" in capsys.readouterr().out
    assert main(["restore", out, str(tmp_path / "restored"), "--key", key]) == 0
    assert main(["restore", out, str(tmp_path / "shared"), "--key", ring]) == 0
    assert sorted(tree(tmp_path / "shared")) == ["datalist.json", "images/b.nii.gz", "labels/b.nii.gz"]
    assert read_scan(tmp_path / "shared/images/b.nii.gz").digest() == read_scan(data / "images/b.nii.gz").digest()
    assert main(["audit", f"{out}/protected", statement, "--public-key", public]) == 0
    for wrong, message in (
        ([], "is encrypted: give its key"),
        (["--key", other], "wrong key"),
        (["--key", ring], "ring"),
    ):
        assert main(["verify", out, *wrong]) == WRONG_INPUT and message in capsys.readouterr().err
    assert main(["restore", out, str(tmp_path / "none"), "--key", other]) == WRONG_INPUT
    assert main(["key", "share", ring, out, "images/a", str(tmp_path / "x")]) == WRONG_INPUT
    assert main(["key", "share", key, out, "images/c", str(tmp_path / "x")]) == WRONG_INPUT
    assert not (tmp_path / "none").exists() and not (tmp_path / "x").exists()


def test_the_exit_codes_of_audit(tmp_path: Path, keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    run_bundle("umed", dataset_dir=str(data), output_dir=str(out), key=keys[0], **QUICK)
    words = ["audit", str(out / "protected"), str(out / "statement.json")]
    assert main(words) == 0 and "every file is as recorded" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0 and json.loads(capsys.readouterr().out)["findings"] == []
    assert main(["key", "public", keys[1], str(tmp_path / "second.pub")]) == 0
    assert main([*words, "--public-key", str(tmp_path / "second.pub")]) == CHECK_FAILED
    before = (out / "statement.json").read_bytes()
    (out / "statement.json").unlink()
    assert main(["statement", str(out)]) == WRONG_INPUT and main(["statement", str(out), "--key", keys[0]]) == 0
    assert (out / "statement.json").read_bytes() == before
    capsys.readouterr()
    flip_byte(out / "protected/images/a.nii.gz", 800)
    assert main(words) == CHECK_FAILED
    printed = capsys.readouterr()
    assert "images/a.nii.gz: changed: found" in printed.out and "1 claim of the statement does not hold" in printed.err
    assert main(["audit", str(out / "protected"), str(tmp_path / "gone.json")]) == WRONG_INPUT
    assert main([*words, "--public-key", keys[0]]) == WRONG_INPUT


def test_a_passphrase_in_place_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, key = str(write_dataset(tmp_path / "data")), str(tmp_path / "out"), str(tmp_path / "derivation.json")
    monkeypatch.setenv(VARIABLE, "a long and good passphrase")
    assert main(["key", "derive", key]) == 0 and "passphrase" not in Path(key).read_text()
    assert main(["protect", "lsp", data, out, "--key", key]) == main(["verify", out, "--key", key]) == 0
    monkeypatch.setenv(VARIABLE, "a long and bad passphrase")
    assert main(["verify", out, "--key", key]) == WRONG_INPUT
    assert "the passphrase is wrong" in capsys.readouterr().err
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["verify", out, "--key", key]) == WRONG_INPUT
    assert f"set {VARIABLE}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "settings"), [("umed", QUICK), ("salm", SMALL), ("error_minimizing_class", SMALL), ("lsp", {})]
)
def test_each_key_has_noise_of_its_own(tmp_path: Path, keys: list[str], method: str, settings: dict[str, Any]) -> None:
    data = write_dataset(tmp_path / "data") if method == "umed" else write_class_folders(tmp_path / "data")
    for name, key in (("first", keys[0]), ("again", keys[0]), ("second", keys[1]), ("plain", None)):
        run_bundle(method, dataset_dir=str(data), output_dir=str(tmp_path / name), key=key, **settings)
    first, again, second, plain = (
        tree(tmp_path / name / "protected") for name in ("first", "again", "second", "plain")
    )
    images = [name for name in first if name.endswith((".png", ".nii.gz")) and "labels" not in name]
    assert first == again and tree(tmp_path / "first/noise") == tree(tmp_path / "again/noise")
    for others in ((first, second), (first, plain), (second, plain)):
        assert any(others[0][name] != others[1][name] for name in images)
    assert readable(tmp_path / "first") == ["statement.json"]
    assert (tmp_path / "plain/models/tensorboard").exists() == ("epochs" in settings)
    run = verify(tmp_path / "first", data, load_key(keys[0])).run
    assert run["config"]["seed"] == 0, "the seed of the settings is the public one"


@pytest.mark.parametrize("name", bundle_names())
def test_every_bundle_takes_a_key(name: str) -> None:
    for config in ("protect", "apply"):
        text = (bundle_root(name) / "configs" / f"{config}.yaml").read_text()
        assert "\nkey: null" in text and text.count("key: '@key'") == 1
    text = (bundle_root(name) / "configs/protect.yaml").read_text()
    assert text.count("'@seed'") == 1, "all randomness follows from the secret seed"


def test_a_configuration_that_would_not_encrypt_is_refused(tmp_path: Path, keys: list[str]) -> None:
    root = shutil.copytree(bundle_root("umed"), tmp_path / "mine")
    config = root / "configs/protect.yaml"
    config.write_text(config.read_text().replace("\nkey: null", "\nother: null"))
    with pytest.raises(InputError, match=r"protect\.yaml has no setting 'key'"):
        run_bundle(str(config), dataset_dir="x", output_dir=str(tmp_path / "out"), key=keys[0])


def test_as_a_bundle_and_after_a_stop(tmp_path: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "data")
    settings = {"dataset_dir": data, "output_dir": tmp_path / "whole", "key": keys[0], "protection#method": "umed"}
    command(*bundle_words("umed", {**settings, **QUICK}))

    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publication, "publish_scan", stopping)
        run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), key=keys[0], **QUICK)
    assert readable(tmp_path / "out") == []
    with pytest.raises(KeyMismatchError, match=r"training\.pt\.sealed: cannot be opened"):
        run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), key=keys[1], **QUICK)
    run_bundle("umed", dataset_dir=str(data), output_dir=str(tmp_path / "out"), key=keys[0], **QUICK)
    for folder in ("noise", "protected"):
        assert tree(tmp_path / "out" / folder) == tree(tmp_path / "whole" / folder)


def test_evaluate_opens_what_is_encrypted_and_encrypts_its_control(
    tmp_path: Path, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_phantom_dataset(data, count=4, test_count=2, size=(24, 24, 16))
    assert main(["protect", "umed", str(data), str(out), "--key", keys[0], *as_words(QUICK)]) == 0
    words = ["evaluate", str(out), str(data), "--iterations", "2", "--num_validations", "1", "--width", "4"]
    assert main(words) == WRONG_INPUT and "is encrypted: give its key" in capsys.readouterr().err
    assert main([*words, "--key", keys[0]]) == 0
    control = out / "laboratory/control"
    assert readable(control) == ["statement.json"]
    assert Manifest.load(control / "noise/manifest.json", load_key(keys[0])).run["method"] == "RandomNoise"
    assert keys[0] not in (out / "report/results.json").read_text()
    assert main(["verify", str(out), "--key", keys[0]]) == 0
    assert main(["report", str(out / "laboratory")]) == 0, "once prepared, the laboratory needs no key"
    shutil.rmtree(control)
    assert main([*words, "--key", keys[0]]) == 0
    assert readable(control) == ["statement.json"]


def test_what_a_key_leaves_out_or_encrypts_besides(tmp_path: Path, keys: list[str]) -> None:
    data, out = write_dataset(tmp_path / "data", names=("a", "b", "secret_name")), tmp_path / "out"
    (data / "images/secret_name.nii.gz").write_bytes(b"")
    words = ["protect", "umed", str(data), str(out), "--key", keys[0], "--skip_invalid", "True", *as_words(QUICK)]
    assert main(words) == CHECK_FAILED
    assert readable(out) == ["statement.json"] and b"secret_name" not in b"".join(tree(out).values())
    reasons = json.loads(read_owned(out / "skipped.json", load_key(keys[0])))
    assert list(reasons) == ["images/secret_name"] and "secret_name.nii.gz" in reasons["images/secret_name"]
    shutil.rmtree(out / "models")
    (data / "images/secret_name.nii.gz").write_bytes((data / "images/a.nii.gz").read_bytes())
    assert main([*words, "--overwrite", "--protection#curves", "True"]) == 0
    assert not (out / "skipped.json.sealed").exists()
    assert all("/tensorboard/" in name for name in readable(out) if name != "statement.json")
    assert (out / "models/tensorboard").is_dir()
