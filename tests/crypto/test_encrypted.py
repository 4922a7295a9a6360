# SPDX-License-Identifier: Apache-2.0
"""The owner's files, plain or encrypted: each opens with its key alone, and never in the place of the other."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.crypto import KeyDerivation, KeyRing, OwnerKey, load_key, secret_seed
from monai_unlearnable.crypto.encrypted import misplaced, place, read_owned, write_owned
from monai_unlearnable.crypto.keys import VARIABLE, ask_passphrase
from monai_unlearnable.crypto.signing import is_signed, load_public_key, public_key, save_public_key, sign
from monai_unlearnable.errors import KeyFileError, KeyMismatchError, NoiseError
from monai_unlearnable.noise import Manifest, NoiseStore
from tests.helpers import tree
from tests.noise.test_store import ENTRY, change_of

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
CHEAP = KeyDerivation(b"salt" * 4, n=2**14)


def test_an_encrypted_file_lies_beside_where_the_plain_one_would(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    write_owned(path, b"content", KEY)
    assert os.listdir(tmp_path) == ["noise.npz.sealed"] and b"content" not in place(path, KEY).read_bytes()
    assert read_owned(path, KEY) == read_owned(place(path, KEY), KEY) == b"content"
    with pytest.raises(KeyMismatchError, match=r"noise\.npz\.sealed: is encrypted: give its key"):
        read_owned(path, None)
    with pytest.raises(KeyMismatchError, match=r"noise\.npz\.sealed: cannot be opened: wrong key"):
        read_owned(path, OTHER)
    with pytest.raises(KeyMismatchError, match=r"noise\.npz: the key ring has no key for it"):
        read_owned(path, KeyRing({}))


def test_a_plain_file_is_not_read_in_place_of_an_encrypted_one(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    write_owned(path, b"plain", None)
    assert read_owned(path, None) == b"plain" and list(misplaced(tmp_path, KEY)) == [path]
    with pytest.raises(KeyMismatchError, match=r"noise\.npz: is not encrypted: give no key"):
        read_owned(path, KEY)
    write_owned(path, b"encrypted", KEY)
    assert read_owned(path, KEY) == b"encrypted" and read_owned(path, None) == b"plain"
    assert list(misplaced(tmp_path, None)) == [place(path, KEY)]
    with pytest.raises(FileNotFoundError):
        read_owned(tmp_path / "gone", KEY)


def test_a_ring_encrypts_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="a key ring opens files alone"):
        write_owned(tmp_path / "x.npz", b"", KeyRing({}))
    with pytest.raises(KeyFileError, match="a key ring opens files alone"):
        secret_seed(0, KeyRing({}))
    assert os.listdir(tmp_path) == []


def test_encrypted_noise_comes_back_and_says_nothing(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path / "x", KEY)
    store.save(ENTRY, change_of())
    (name,) = tree(tmp_path / "x")
    assert name == "images/a.npz.sealed" and "images/a" in store and store.ids() == ["images/a"]
    assert store.entry("images/a") == ENTRY and store.load("images/a")[1].steps.tolist() == change_of().steps.tolist()
    assert "images/a" not in NoiseStore(tmp_path / "x") and NoiseStore(tmp_path / "x").ids() == []
    NoiseStore(tmp_path / "again", KEY).save(ENTRY, change_of())
    assert tree(tmp_path / "again") == tree(tmp_path / "x"), "the same noise and key, the same bytes"
    for key, reason in ((OTHER, "cannot be opened"), (None, "is encrypted"), (KeyRing({}), "has no key for it")):
        with pytest.raises(KeyMismatchError, match=rf"images/a, .*a\.npz(\.sealed)?: .*{reason}"):
            NoiseStore(tmp_path / "x", key).load("images/a")


def test_noise_is_bound_to_its_place(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path, KEY)
    store.save(ENTRY, change_of())
    store.path("images/a").rename(store.path("images/b"))
    with pytest.raises(KeyMismatchError, match=r"images/b, .*: cannot be opened"):
        store.load("images/b")


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_of_encrypted_noise_is_found(tmp_path: Path, position: int, bit: int) -> None:
    store = NoiseStore(tmp_path, KEY)
    store.save(ENTRY, change_of())
    content = bytearray(store.path("images/a").read_bytes())
    content[position % len(content)] ^= 1 << bit
    store.path("images/a").write_bytes(content)
    with pytest.raises(NoiseError, match=r"images/a, .*a\.npz\.sealed: "):
        store.load("images/a")


def test_a_shared_ring_opens_the_chosen_case_alone(tmp_path: Path) -> None:
    from dataclasses import replace

    store = NoiseStore(tmp_path, KEY)
    for case_id, names in {"one": ("z", "b"), "two": ("y", "x")}.items():
        for name in names:
            store.save(replace(ENTRY, scan_id=name, case_id=case_id, case_scans=names), change_of())
    ring = store.share(["one"])
    shared = NoiseStore(tmp_path, ring)
    assert shared.ids() == ["b", "z"] and shared.of_case("one") == ["z", "b"]
    assert shared.load("z")[0].case_id == "one"
    with pytest.raises(KeyMismatchError, match=r"y, .*the key ring has no key for it"):
        shared.load("y")
    with pytest.raises(NoiseError, match="two, .*no noise is stored for this case"):
        shared.of_case("two")
    for keyless in (shared, NoiseStore(tmp_path)):
        with pytest.raises(NoiseError, match="only the owner's key gives the keys of files"):
            keyless.share(["one"])
    with pytest.raises(NoiseError, match="three, .*no noise is stored for this case"):
        store.share(["three"])
    store.save(replace(ENTRY, scan_id="z", case_id="one", case_scans=("z", "b")), change_of(seed=1))
    with pytest.raises(KeyMismatchError, match="z, .*cannot be opened"):  # the next version is not given away
        shared.load("z")


def test_a_manifest_is_encrypted(tmp_path: Path) -> None:
    manifest = Manifest({"method": "UMed", "config": {"seed": 7}}, (ENTRY,), "0" * 64)
    manifest.save(tmp_path / "manifest.json", KEY)
    assert os.listdir(tmp_path) == ["manifest.json.sealed"]
    assert Manifest.load(tmp_path / "manifest.json", KEY) == manifest
    for key in (None, OTHER):
        with pytest.raises(KeyMismatchError, match=r"manifest\.json\.sealed: "):
            Manifest.load(tmp_path / "manifest.json", key)


def test_any_kind_of_key_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KEY.save(tmp_path / "key")
    KeyRing({}).save(tmp_path / "ring")
    CHEAP.checking("pass phrase").save(tmp_path / "derivation")
    assert load_key(None) is None and load_key(tmp_path / "key") == KEY and load_key(tmp_path / "ring") == KeyRing({})
    monkeypatch.setenv(VARIABLE, "pass phrase")
    assert load_key(tmp_path / "derivation") == OwnerKey.from_passphrase("pass phrase", CHEAP)
    monkeypatch.setenv(VARIABLE, "pass phrases")
    with pytest.raises(KeyFileError, match="derivation: the key cannot be read: the passphrase is wrong"):
        load_key(tmp_path / "derivation")
    (tmp_path / "scan").write_bytes(b"\x1f\x8b")
    for name in ("scan", "gone"):
        with pytest.raises(KeyFileError, match=rf"{name}: the .*key cannot be read: "):
            load_key(tmp_path / name)


def test_where_passphrases_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_unlearnable.crypto import keys as passphrases

    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(KeyFileError, match=f"there is no terminal: set {VARIABLE}"):
        ask_passphrase()
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    answers = ["a", "b", "c"]
    typed = functools.cache(lambda prompt: answers.pop(0))
    monkeypatch.setattr(passphrases, "_typed", typed)
    assert ask_passphrase() == ask_passphrase() == "a", "a command asks once"
    passphrases._typed.cache_clear()
    assert ask_passphrase() == "b", "and again where it was wrong"
    monkeypatch.setattr(passphrases.getpass, "getpass", {"passphrase: ": "a", "once more: ": "b"}.get)
    with pytest.raises(KeyFileError, match="the two passphrases differ"):
        ask_passphrase(twice=True)


def test_secret_seeds() -> None:
    assert secret_seed(3, None) == 3
    seeds = {secret_seed(seed, key) for seed in (0, 1, -1, 2**40) for key in (KEY, OTHER)}
    assert len(seeds) == 8 and secret_seed(1, KEY) == secret_seed(1, OwnerKey(KEY.secret))
    assert min(seed.bit_length() for seed in seeds) > 200


def test_signatures(tmp_path: Path) -> None:
    signature, public = sign(b"content", KEY), public_key(KEY)
    assert signature == sign(b"content", KEY) and is_signed(b"content", signature, public)
    assert not is_signed(b"contents", signature, public) and not is_signed(b"content", signature, public_key(OTHER))
    assert not is_signed(b"content", b"", public) and not is_signed(b"content", signature, b"short")
    save_public_key(KEY, tmp_path / "owner.pub")
    assert load_public_key(tmp_path / "owner.pub") == public
    KEY.save(tmp_path / "key")
    with pytest.raises(KeyFileError, match="public key cannot be read: it is the owner's key, which is secret"):
        load_public_key(tmp_path / "key")
