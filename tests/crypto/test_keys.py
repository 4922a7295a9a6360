# SPDX-License-Identifier: Apache-2.0
"""Keys come back from their files and passphrases, or with one clear error; no file and no text gives them away."""

from __future__ import annotations

import base64
import copy
import errno
import hashlib
import json
import os
import pickle
import stat
import time
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.crypto import FileKey, KeyDerivation, KeyRing, OwnerKey, keyfiles
from monai_unlearnable.errors import KeyFileError, KeyMismatchError, OutputError
from monai_unlearnable.utils.files import UNFINISHED, remove_unfinished

SECRET = bytes(range(100, 132))
KEY = OwnerKey(SECRET)
RING = KeyRing({"images/ä.npz": FileKey(SECRET), "": FileKey(bytes(32)), "x\udcff": FileKey(b"\xff" * 32)})
CHEAP = KeyDerivation(b"salt" * 4, n=2**14)  # the least that is allowed
SAVED: dict[str, Any] = {"key": KEY, "ring": RING, "derivation": CHEAP}

each = pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)


def save(saved: Any, path: Path) -> Path:
    saved.save(path)
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def checked(secret: bytes, prefix: str = "monai_unlearnable-owner-key-1:") -> str:
    return prefix + base64.b64encode(secret + hashlib.sha256(prefix.encode() + secret).digest()[:4]).decode()


@each
def test_round_trip(saved: Any, tmp_path: Path) -> None:
    path = save(saved, tmp_path / "folder" / "file")
    assert type(saved).load(path) == saved == type(saved).load(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == save(saved, tmp_path / "again").read_bytes()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["again", "file"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
@each
def test_no_file_is_replaced(saved: Any, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = save(saved, tmp_path / "file")
    assert type(saved).load(path) == saved and stat.S_IMODE(path.stat().st_mode) == 0o600
    write(path, b"before")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for taken in (path, tmp_path / "dangling"):
        with pytest.raises(OutputError, match=rf"{taken.name}: the file exists already and is not replaced"):
            saved.save(taken)
    assert path.read_bytes() == b"before" and sorted(os.listdir(tmp_path)) == ["dangling", "file"]


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", b"")
    with pytest.raises(OutputError, match=r"file/key: cannot be written: "):
        KEY.save(tmp_path / "file" / "key")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("link", "replace", "fsync"):  # without links there is a try to rename, so each fails further on
        monkeypatch.setattr(os, name, fail)
        if name != "link":
            with pytest.raises(OutputError, match=r"key: cannot be written: No space left on device"):
                KEY.save(tmp_path / "key")
            assert os.listdir(tmp_path) == ["file"]


def test_a_temporary_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: remove_unfinished(tmp_path))  # by a run that begins in the folder
    with pytest.raises(OutputError, match=r"key: cannot be written: No such file"):
        KEY.save(tmp_path / "key")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_leaves_is_known_as_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.extend(os.listdir(tmp_path)))
    KEY.save(tmp_path / "key")
    assert len(seen) == 1 and UNFINISHED.fullmatch(seen[0])


def test_the_file_of_a_key(tmp_path: Path) -> None:
    checksum = hashlib.sha256(b"monai_unlearnable-owner-key-1:" + SECRET).digest()[:4]
    expected = b"monai_unlearnable-owner-key-1:" + base64.b64encode(SECRET + checksum) + b"\n"
    assert save(KEY, tmp_path / "key").read_bytes() == expected
    assert len(expected.splitlines()) == 1
    for copied in (expected.strip(), b"\n " + expected.strip() + b"\r\n\n"):  # as mail and editors leave it
        assert OwnerKey.load(write(tmp_path / "copied", copied)) == KEY


@given(st.data())
def test_a_mistyped_key_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("keys")
    text = checked(SECRET)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != text[at]))
    typos = {text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:], text[:at]}
    for typo in typos:
        if typo.strip() != text:
            with pytest.raises(KeyFileError, match=r"typed: the owner's key cannot be read: (it|a value)") as caught:
                OwnerKey.load(write(folder / "typed", typo))
            assert text[31:51] not in str(caught.value)


def test_every_other_last_character_is_refused(tmp_path: Path) -> None:
    text = checked(SECRET)
    for other in set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_ \n") - {text[-1]}:
        with pytest.raises(KeyFileError, match=r"cannot be read"):
            OwnerKey.load(write(tmp_path / "typed", text[:-1] + other))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with monai_unlearnable-owner-key-1:"),
        (b"PK\x03\x04\xff\xfe", "does not begin with"),
        (checked(SECRET, "monai_unlearnable-owner-key-2:"), "does not begin with"),
        ("monai_unlearnable-owner-key-1:", "not base64"),
        (checked(SECRET) + "\n" + checked(SECRET), "not base64"),
        (checked(SECRET).replace("ZGVm", "ZGVn"), "checksum"),
        (checked(SECRET[:31]), "checksum"),
        (checked(SECRET + b"x"), "checksum"),
        (checked(b""), "checksum"),
    ],
)
def test_a_file_that_is_no_key_is_refused(content: str | bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=rf"owner\.key: the owner's key cannot be read: .*{reason}"):
        OwnerKey.load(write(tmp_path / "owner.key", content))


@pytest.mark.parametrize("load", [OwnerKey.load, KeyRing.load, KeyDerivation.load])
def test_missing_and_far_too_large_files(load: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"gone: the .* cannot be read: No such file or directory"):
        load(tmp_path / "gone")
    with pytest.raises(KeyFileError, match=r"cannot be read: Is a directory"):
        load(tmp_path)
    with (tmp_path / "scan").open("wb") as stream:
        stream.truncate(2**40)  # sparse
    with pytest.raises(KeyFileError, match=r"scan: the .* cannot be read: the file is too large to be one"):
        load(tmp_path / "scan")


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    assert repr(KEY) == str(KEY) == f"{KEY}" == "OwnerKey(...)" and repr(FileKey(SECRET)) == "FileKey(...)"
    assert repr(KeyRing({"a": FileKey(SECRET)})) == "KeyRing(keys={'a': FileKey(...)})"
    with pytest.raises(KeyFileError) as caught:
        OwnerKey(SECRET[:-1])
    assert str(caught.value) == "a key has 32 bytes"


def test_keys_are_compared_by_value_and_kind() -> None:
    assert OwnerKey(SECRET) == KEY == copy.deepcopy(KEY) == pickle.loads(pickle.dumps(KEY))  # for workers of loaders
    assert OwnerKey(bytes(32)) != KEY and FileKey(SECRET) != KEY and KEY != SECRET
    with pytest.raises(TypeError, match="unhashable"):
        hash(KEY)
    assert len({OwnerKey.generate().secret for _ in range(20)}) == 20


@pytest.mark.parametrize("secret", [b"", SECRET[:31], SECRET + b"x", bytearray(SECRET), SECRET.hex(), None])
@pytest.mark.parametrize("kind", [OwnerKey, FileKey])
def test_keys_have_32_bytes(kind: type, secret: Any) -> None:
    with pytest.raises(KeyFileError, match="a key has 32 bytes"):
        kind(secret)


def test_a_passphrase_gives_its_key_again(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "schöne Grüße")
    key = OwnerKey.from_passphrase(composed, CHEAP)
    assert key.secret == hashlib.scrypt(composed.encode(), salt=CHEAP.salt, n=2**14, r=8, p=1, maxmem=2**26, dklen=32)
    again = KeyDerivation.load(save(CHEAP, tmp_path / "derivation.json"))
    assert OwnerKey.from_passphrase(unicodedata.normalize("NFD", composed), again) == key
    others = [
        (composed + " ", CHEAP),
        (composed, KeyDerivation(b"Salt" * 4, 2**14)),
        (composed, KeyDerivation(b"salt" * 4, 2**14, 9)),
    ]
    assert all(OwnerKey.from_passphrase(*other) != key for other in others)
    with pytest.raises(KeyFileError, match="the passphrase is empty"):
        OwnerKey.from_passphrase("", CHEAP)


def test_a_mistyped_passphrase_is_found(tmp_path: Path) -> None:
    checking = KeyDerivation.load(save(CHEAP.checking("schöne Grüße"), tmp_path / "derivation.json"))
    assert checking != CHEAP
    assert OwnerKey.from_passphrase("schöne Grüße", checking) == OwnerKey.from_passphrase("schöne Grüße", CHEAP)
    with pytest.raises(KeyFileError, match="the passphrase is wrong"):
        OwnerKey.from_passphrase("schöne Grüsse", checking)


def test_each_derivation_has_its_salt() -> None:
    first, second = KeyDerivation.generate(), KeyDerivation.generate()
    assert first.salt != second.salt and (first.n, first.r, first.p) == (2**17, 8, 1)
    assert KeyDerivation.generate(2**15, 9, 2).p == 2


def record(**changes: Any) -> dict[str, Any]:
    sound = {"format": "monai_unlearnable key derivation 1", "salt": base64.b64encode(CHEAP.salt).decode()}
    content = {**sound, "n": 2**14, "r": 8, "p": 1, "check": None, **changes}
    return {name: value for name, value in content.items() if value != "absent"}


def test_the_file_of_a_derivation(tmp_path: Path) -> None:
    assert json.loads(save(CHEAP, tmp_path / "x").read_text()) == record()


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"n": n}
            for n in (0, 1, 2, 2**13, 2**14 + 1, -(2**14), 2**21, 2**62, 10**4000, 16384.0, True, "16384", None)
        ),
        *({"r": r} for r in (0, 1, 7, -8, 2**10, 2**40, 8.0)),
        *({"p": p} for p in (0, -1, 2**7, 2**40, True, [1])),
        *({"n": 2**20, "r": 8, "p": 2}, {"n": 2**14, "r": 2**8, "p": 4}),
        *({"salt": salt} for salt in ("", "AAAA", "A" * 100, "not base64 at all!", 7, None, ["A"], "ä" * 24)),
        *(
            {"format": form}
            for form in ("monai_unlearnable key derivation 2", "monai_unlearnable key ring 1", 1, "absent")
        ),
        *({"n": "absent"}, {"salt": "absent"}, {"check": "absent"}, {"more": 1}),
        *({"check": check} for check in ("", 7, "not base64!", {})),
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_hostile_derivations_are_refused_at_once(changes: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "derivation.json", json.dumps(record(**changes)))
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(KeyFileError, match=r"derivation\.json: the key derivation cannot be read: "):
            KeyDerivation.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22 and time.perf_counter() - began < 1
    finally:
        tracemalloc.stop()


def test_the_largest_cost_allowed_is_a_gibibyte() -> None:
    assert KeyDerivation(b"salt" * 4, n=2**20, r=8, p=1)
    with pytest.raises(KeyFileError, match=r"n \* r \* p at most 2\*\*23"):
        KeyDerivation(b"salt" * 4, n=2**20, r=9, p=1)


def test_the_file_of_a_ring(tmp_path: Path) -> None:
    content = json.loads(save(KeyRing({"a": FileKey(SECRET)}), tmp_path / "ring.json").read_text())
    assert content == {"format": "monai_unlearnable key ring 1", "keys": {"a": base64.b64encode(SECRET).decode()}}
    assert KeyRing.load(save(KeyRing({}), tmp_path / "empty.json")) == KeyRing({})


@pytest.mark.parametrize("name", ["../a.npz", "/etc/a.npz", "images/../../a.npz"])
def test_a_ring_cannot_point_outside(tmp_path: Path, name: str) -> None:
    path = save(KeyRing({name: FileKey(SECRET)}), tmp_path / "ring.json")
    with pytest.raises(KeyFileError, match=r"ring\.json: .*lies outside the folder"):
        KeyRing.load(path)


def test_a_ring_finds_the_key_of_a_name() -> None:
    assert RING.find("images/ä.npz") == FileKey(SECRET)
    with pytest.raises(KeyMismatchError, match="images/b: the key ring has no key for it"):
        RING.find("images/b")


TEXT = base64.b64encode(SECRET).decode()
HEAD = '{"format": "monai_unlearnable key ring 1", "keys": '


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", "{}", "7", '"x"', "{", b"\xff\xfe\xfd", "[" * 100_000, '{"a":' * 100_000),
        '{"keys": {}}',
        '{"format": "monai_unlearnable key ring 2", "keys": {}}',
        '{"format": "monai_unlearnable key derivation 1", "keys": {}}',
        *(HEAD + keys + "}" for keys in ("null", "[]", f'["{TEXT}"]', f'"{TEXT}"', "7")),
        HEAD + '{}, "keys": {}}',
        HEAD + '{}, "more": 1}',
        HEAD + f'{{"a": "{TEXT}", "a": "{TEXT}"}}}}',
        *(HEAD + f'{{"a": {json.dumps(text)}}}}}' for text in (None, 7, "", [], {}, [TEXT], "*" * 44, "ä" * 44)),
        *(HEAD + f'{{"a": "{text}"}}}}' for text in (TEXT[:-1], TEXT + "=", TEXT[:-4], TEXT + "AAAA", " " + TEXT)),
        HEAD + f'{{"a": "{TEXT[:-2]}N="}}}}',  # the same bytes with other bits in what base64 pads
        HEAD + f'{{"a": "{TEXT[:20]}\\n{TEXT[20:]}"}}}}',
        checked(SECRET),
    ],
    ids=lambda content: repr(content[:90]),
)
def test_a_broken_ring_is_refused(content: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"ring\.json: the key ring cannot be read: ") as caught:
        KeyRing.load(write(tmp_path / "ring.json", content))
    assert TEXT[:20] not in str(caught.value)


def test_the_padding_bits_of_the_test_above_are_free() -> None:
    assert base64.b64decode(TEXT[:-2] + "N=") == SECRET and TEXT[-2] != "N"


@given(st.dictionaries(st.text(max_size=10), st.binary(min_size=32, max_size=32), max_size=5))
def test_any_ring_comes_back(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, bytes]) -> None:
    ring = KeyRing({name: FileKey(secret) for name, secret in secrets.items()})
    assert KeyRing.load(save(ring, tmp_path_factory.mktemp("rings") / "ring.json")) == ring


@given(st.binary(max_size=60))
def test_base64_has_one_text_for_each_value(content: bytes) -> None:
    if content:
        assert keyfiles.from_base64(keyfiles.to_base64(content)) == content
    with pytest.raises(KeyFileError, match="a value is not base64"):
        keyfiles.from_base64(keyfiles.to_base64(content) + "\n")
