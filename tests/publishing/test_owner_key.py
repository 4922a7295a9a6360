# SPDX-License-Identifier: Apache-2.0
"""An output that was made with the owner's key: it opens with this key alone, and nothing readable lies beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.crypto import KeyRing, OwnerKey, secret_seed
from monai_unlearnable.crypto.encrypted import is_encrypted
from monai_unlearnable.data import load_cases, read_scan
from monai_unlearnable.errors import KeyFileError, KeyMismatchError, OutputError, UnlearnableError, VerificationError
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise import Manifest, NoiseStore
from monai_unlearnable.perturbers import RandomNoise, load_perturber
from monai_unlearnable.proof import random_control
from monai_unlearnable.publishing.archives import protected_archive
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.transforms import LoadScan, RemoveNoise
from tests.helpers import protect, tree, write_dataset
from tests.publishing.test_archives import write_archive
from tests.publishing.test_publication import stop_at

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
# What the owner's plain files begin with or hold: archives of numpy and torch, names of records, safetensors. Each is
# so long that encrypted bytes do not hold it by chance: four bytes of a megabyte do once in some thousand keys.
READABLE = [rb"PK\x03\x04[\x00\x0a\x14\x2d]\x00", rb"clean_sha256", rb'seed\\*"', rb"__metadata__", rb"_target_"]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two protected 3D cases: ``clean``, ``out`` and ``manifest``. Shared: read only."""
    root = tmp_path_factory.mktemp("sealed")
    clean = write_dataset(root / "clean")
    return SimpleNamespace(clean=clean, out=root / "out", manifest=protect(clean, root / "out", key=KEY))


@pytest.fixture
def out(sealed: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the output, to be spoiled."""
    return shutil.copytree(sealed.out, tmp_path / "published")


def readable(folder: Path) -> list[str]:
    """The files of an output, but for the published ones, that are not encrypted or whose content shows."""
    private = {name: content for name, content in tree(folder).items() if not name.startswith("protected/")}
    plain = {name for name, content in private.items() if not is_encrypted(content)}
    shown = {name for name, content in private.items() if any(re.search(part, content) for part in READABLE)}
    return sorted(plain | shown)


@pytest.mark.parametrize("part", [part for part in READABLE if b"seed" not in part])  # that is of bundles
def test_plain_files_hold_what_encrypted_ones_are_searched_for(published: SimpleNamespace, part: bytes) -> None:
    private = [content for name, content in tree(published.out).items() if not name.startswith("protected/")]
    assert any(re.search(part, content) for content in private)


def test_nothing_but_the_statement_can_be_read(sealed: SimpleNamespace, published: SimpleNamespace) -> None:
    assert readable(sealed.out) == ["statement.json"]
    plain = {name + ".sealed" if name.startswith(("noise/", "models/")) else name for name in tree(published.out)}
    assert plain == set(tree(sealed.out)), "encrypted, the same files"
    assert tree(sealed.out / "protected") == tree(published.out / "protected")


def test_opens_with_its_key_alone(sealed: SimpleNamespace, tmp_path: Path) -> None:
    assert verify(sealed.out, sealed.clean, KEY) == sealed.manifest
    restore(sealed.out, tmp_path / "restored", key=KEY)
    for entry in sealed.manifest.scans:
        assert read_scan(tmp_path / "restored" / entry.file).digest() == entry.clean_sha256
    apply_stored(sealed.out / "noise", sealed.clean, tmp_path / "again", key=KEY)
    assert tree(tmp_path / "again/protected") == tree(sealed.out / "protected")
    assert tree(tmp_path / "again/noise") == tree(sealed.out / "noise")


@pytest.mark.parametrize("key", [None, OTHER, KeyRing({})], ids=["none", "wrong", "empty ring"])
@pytest.mark.parametrize(
    "use",
    [
        lambda sealed, target, key: verify(sealed.out, key=key),
        lambda sealed, target, key: restore(sealed.out, target, key=key),
        lambda sealed, target, key: apply_stored(sealed.out / "noise", sealed.clean, target, key=key),
        lambda sealed, target, key: load_perturber(sealed.out / "models/perturber.safetensors", key=key),
    ],
    ids=["verify", "restore", "apply", "checkpoint"],
)
def test_stays_closed_otherwise(sealed: SimpleNamespace, tmp_path: Path, use, key) -> None:
    with pytest.raises(KeyMismatchError, match=r"is encrypted: give its key|cannot be opened|key ring has no key"):
        use(sealed, tmp_path / "out", key)
    assert not tree(tmp_path), "nothing is written"


@given(data=st.data())
def test_any_flipped_bit_is_found(sealed: SimpleNamespace, tmp_path: Path, data: st.DataObject) -> None:
    out = tmp_path / "spoiled"
    if not out.exists():
        shutil.copytree(sealed.out, out)
    name = data.draw(st.sampled_from(sorted(tree(out))))
    content = (out / name).read_bytes()
    position = data.draw(st.integers(0, len(content) * 8 - 1))
    spoiled = bytearray(content)
    spoiled[position // 8] ^= 1 << position % 8
    try:
        (out / name).write_bytes(spoiled)
        with pytest.raises(UnlearnableError):
            verify(out, key=KEY)
    finally:
        (out / name).write_bytes(content)


@pytest.mark.parametrize(("function", "call"), [("publish_scan", 1), ("write_datalist", 0), ("write_statement", 0)])
def test_stopped_runs_continue_to_the_same_bytes(
    sealed: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, function, call)
        protect(sealed.clean, tmp_path, key=KEY)
    assert readable(tmp_path) == []
    with pytest.raises(KeyMismatchError, match=r"\.sealed: cannot be opened: wrong key"):
        protect(sealed.clean, tmp_path, key=OTHER)
    protect(sealed.clean, tmp_path, key=KEY)
    assert tree(tmp_path) == tree(sealed.out)


@pytest.mark.parametrize(("before", "after"), [(None, KEY), (KEY, None)], ids=["plain first", "encrypted first"])
def test_plain_and_encrypted_files_do_not_mix(
    sealed: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before, after
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "publish_scan", 1)
        protect(sealed.clean, tmp_path / "out", key=before)
    files = tree(tmp_path / "out")
    with pytest.raises(OutputError, match=r"a\.npz.*: is (not )?encrypted, but (a|no) key is given; choose"):
        protect(sealed.clean, tmp_path / "out", key=after)
    assert tree(tmp_path / "out") == files
    protect(sealed.clean, tmp_path / "out", key=after, overwrite=True)
    protect(sealed.clean, tmp_path / "fresh", key=after)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_originals_are_never_deleted(sealed: SimpleNamespace, tmp_path: Path) -> None:
    original = tmp_path / "out/unpacked/a.png"
    original.parent.mkdir(parents=True)
    original.write_bytes(b"an original")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"a\.png: an earlier run .* delete them yourself"):
            protect(sealed.clean, tmp_path / "out", key=KEY, overwrite=overwrite)
    assert tree(tmp_path / "out") == {"unpacked/a.png": b"an original"}


def test_another_key_replaces_only_with_overwrite(out: Path, sealed: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"manifest\.json\.sealed: the output exists already"):
        protect(sealed.clean, out, key=OTHER)
    protect(sealed.clean, out, key=OTHER, overwrite=True)
    protect(sealed.clean, tmp_path / "fresh", key=OTHER)
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_ring_protects_nothing(out: Path, sealed: SimpleNamespace) -> None:
    before = tree(out)
    with pytest.raises(KeyFileError, match="a key ring opens files alone"):
        protect(sealed.clean, out, key=KeyRing({}), overwrite=True)
    assert tree(out) == before


@pytest.mark.parametrize("name", ["noise/images/a.npz", "models/training.pt", "laboratory/control/noise/manifest.json"])
def test_a_plain_file_beside_encrypted_ones_is_found(out: Path, name: str) -> None:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(b"put there")
    with pytest.raises(VerificationError, match="is not encrypted, and files beside it are"):
        verify(out, key=KEY)


def test_checkpoints_are_verified(out: Path, published: SimpleNamespace, tmp_path: Path) -> None:
    (out / "models/perturber.safetensors.sealed").unlink()
    assert verify(out, key=KEY), "restoring does not need it"
    plain = shutil.copytree(published.out, tmp_path / "plain")
    content = bytearray((plain / "models/perturber.safetensors").read_bytes())
    content[-1] ^= 1
    (plain / "models/perturber.safetensors").write_bytes(content)
    with pytest.raises(VerificationError, match=r"perturber\.safetensors: SHA-256 of the checkpoint"):
        verify(plain)


def test_a_recipient_restores_the_chosen_case_alone(sealed: SimpleNamespace, tmp_path: Path) -> None:
    ring = NoiseStore(sealed.out / "noise", KEY).share(["images/a"])
    given_away = tmp_path / "given"  # the published files and the noise of all cases, but no manifest
    shutil.copytree(sealed.out / "protected", given_away / "protected")
    shutil.copytree(sealed.out / "noise/images", given_away / "noise/images")
    (entry,) = restore(given_away, tmp_path / "restored", key=ring)
    assert entry == sealed.manifest.scans[0]
    assert sorted(tree(tmp_path / "restored")) == ["datalist.json", "images/a.nii.gz", "labels/a.nii.gz"]
    assert read_scan(tmp_path / "restored/images/a.nii.gz").digest() == entry.clean_sha256
    assert [case.case_id for case in load_cases(tmp_path / "restored")] == ["images/a"]
    with pytest.raises(KeyMismatchError, match="images/b, .*the key ring has no key for it"):
        NoiseStore(given_away / "noise", ring).load("images/b")
    with pytest.raises(KeyMismatchError, match="manifest.json: the key ring has no key for it"):
        verify(sealed.out, key=ring)
    (given_away / "noise/images/b.npz.sealed").rename(given_away / "noise/images/a.npz.sealed")
    with pytest.raises(KeyMismatchError, match="images/a, .*cannot be opened"):
        restore(given_away, tmp_path / "other", key=ring)
    assert not (tmp_path / "other").exists()


def test_transforms_open_encrypted_noise(sealed: SimpleNamespace) -> None:
    image, clean = (LoadScan()(folder / "images/a.nii.gz") for folder in (sealed.out / "protected", sealed.clean))
    undone = RemoveNoise(NoiseStore(sealed.out / "noise", KEY))(image, "images/a")
    assert np.array_equal(undone.numpy(), clean.numpy())


def test_each_key_publishes_other_noise(sealed: SimpleNamespace, tmp_path: Path) -> None:
    for name, key in (("first", KEY), ("again", KEY), ("second", OTHER)):
        noise = RandomNoise(0.1, Everywhere(), secret_seed(0, key))
        protect(sealed.clean, tmp_path / name, noise, key=key)
    first, again, second = (tree(tmp_path / name) for name in ("first", "again", "second"))
    assert first == again
    assert first["protected/images/a.nii.gz"] != second["protected/images/a.nii.gz"]


def test_the_control_is_encrypted_and_of_a_secret_seed(out: Path, sealed: SimpleNamespace) -> None:
    cases, control = load_cases(sealed.clean), out / "laboratory/control"
    random_control(cases, out, control, key=KEY)
    assert readable(control) == ["statement.json"]
    assert Manifest.load(control / "noise/manifest.json", KEY).run["perturber"]["seed"] == secret_seed(0, KEY)
    before = tree(control)
    random_control(cases, out, control, key=KEY)
    assert tree(control) == before and verify(out, key=KEY)


def test_an_archive_leaves_no_originals(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "small.npz")
    with protected_archive(archive, tmp_path / "out", key=KEY) as folder:
        protect(folder, tmp_path / "out", RandomNoise(0.1, Everywhere()), key=KEY)
    assert not folder.exists() and readable(tmp_path / "out") == ["statement.json"]
    assert len(verify(tmp_path / "out", key=KEY).scans) == 3
    assert not audit(tmp_path / "out/protected", tmp_path / "out/statement.json").findings
    assert "small.npz" in (tmp_path / "out/statement.json").read_text()
