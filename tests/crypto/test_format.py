# SPDX-License-Identifier: Apache-2.0
"""What is encrypted opens with its key and under its name, as it was, and in no other way."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.crypto import FileKey, OwnerKey, encrypted
from monai_unlearnable.crypto.encrypted import decrypt, encrypt, file_key, is_encrypted
from monai_unlearnable.errors import KeyMismatchError, NoiseError

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))
NAME, CONTENT = "images/ä.npz", b"noise of a scan"
ENCRYPTED = encrypt(CONTENT, KEY, NAME)
FILE_KEY = file_key(ENCRYPTED, KEY, NAME)
CLOSED = r"cannot be opened: wrong key, or the file was changed"

# Surrogates are what Python makes of file names that are no text.
NAMES = st.text(st.characters(exclude_categories=[]), max_size=20)


def documented(content: bytes, secret: bytes, name: str) -> bytes:
    """The encrypted file as the docstring of the module describes it, of the primitives alone."""
    encoded, label = name.encode(), b"monai_unlearnable seal 1 "
    digest_key = HKDFExpand(SHA256(), 32, label + b"digest").derive(secret)
    digest = hmac.digest(digest_key, len(encoded).to_bytes(8, "big") + encoded + content, hashlib.sha256)
    file_secret = HKDFExpand(SHA256(), 32, label + b"file" + digest + encoded).derive(secret)
    header = b"mu-seal\x01" + digest
    return header + AESGCM(file_secret).encrypt(bytes(12), content, header + encoded)


def forge(content: bytes, key: FileKey, name: str) -> bytes:
    """Another content under the header of a file, made by a recipient of its key."""
    header = ENCRYPTED[:40]
    return header + AESGCM(key.secret).encrypt(bytes(12), content, header + name.encode())


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32), NAMES)
def test_round_trip_with_either_key(content: bytes, secret: bytes, name: str) -> None:
    key = OwnerKey(secret)
    ciphertext = encrypt(content, key, name)
    assert is_encrypted(ciphertext) and len(ciphertext) == len(content) + 56
    assert decrypt(ciphertext, key, name) == content == decrypt(ciphertext, file_key(ciphertext, key, name), name)
    assert encrypt(content, OwnerKey(secret), name) == ciphertext


@given(st.binary(max_size=100), st.binary(min_size=32, max_size=32), st.text(max_size=20))
def test_the_format_is_the_documented_one(content: bytes, secret: bytes, name: str) -> None:
    assert encrypt(content, OwnerKey(secret), name) == documented(content, secret, name)


def test_known_answer() -> None:
    # Files encrypted by one release have to open with all later ones: this answer never changes.
    answer = """
        6d752d7365616c01
        a2e57ce53613ecfa74716b9c80cb0a27b7103581d95b8cb82878cc94cf1042d0
        cadd944f25d978abe76281864081f0
        696ed65ac74efc8f2aaec9e663833a0d
    """
    assert encrypt(CONTENT, KEY, NAME) == bytes.fromhex(answer)


def test_known_answer_of_rfc_5869() -> None:
    # The second half of the first test case: that the derivation is the standard one, not merely the library's.
    pseudorandom = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    assert HKDFExpand(SHA256(), 32, info).derive(pseudorandom).hex() == expected
    assert hmac.digest(pseudorandom, info + b"\x01", "sha256").hex() == expected


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_gives_the_same_bytes(hash_seed: str) -> None:
    code = f"""if True:
        from monai_unlearnable.crypto import OwnerKey
        from monai_unlearnable.crypto.encrypted import encrypt
        print(encrypt({CONTENT!r}, OwnerKey({KEY.secret!r}), {NAME!r}).hex())"""
    environment = {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert bytes.fromhex(done.stdout) == ENCRYPTED


@pytest.mark.parametrize(("key", "name"), [(OTHER, NAME), (KEY, "images/b.npz"), (KEY, ""), (KEY, NAME + "\0")])
def test_another_key_or_name_is_refused(key: OwnerKey, name: str) -> None:
    for opens in (decrypt, file_key):
        with pytest.raises(KeyMismatchError, match=CLOSED):
            opens(ENCRYPTED, key, name)


@pytest.mark.parametrize("key", [KEY, FILE_KEY], ids=["owner's key", "key of the file"])
@given(position=st.integers(0, len(ENCRYPTED) - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_refused(key: OwnerKey | FileKey, position: int, change: int) -> None:
    changed = bytearray(ENCRYPTED)
    changed[position] ^= change
    refused = NoiseError if position < 8 else KeyMismatchError
    with pytest.raises(refused, match=r"is not encrypted" if position < 8 else CLOSED):
        decrypt(bytes(changed), key, NAME)


@pytest.mark.parametrize("key", [KEY, FILE_KEY], ids=["owner's key", "key of the file"])
def test_every_flipped_bit_and_every_truncation_is_refused(key: OwnerKey | FileKey) -> None:
    flipped = [bytearray(ENCRYPTED) for _ in range(8 * len(ENCRYPTED))]
    for index, content in enumerate(flipped):
        content[index // 8] ^= 1 << index % 8
    cut = [ENCRYPTED[:end] for end in range(len(ENCRYPTED))] + [ENCRYPTED[start:] for start in range(1, len(ENCRYPTED))]
    for content in (*map(bytes, flipped), *cut, ENCRYPTED + b"\0", ENCRYPTED + ENCRYPTED):
        with pytest.raises(NoiseError):
            decrypt(content, key, NAME)


@pytest.mark.parametrize("key", [KEY, FILE_KEY], ids=["owner's key", "key of the file"])
@given(content=st.binary(max_size=120))
def test_other_bytes_are_refused(key: OwnerKey | FileKey, content: bytes) -> None:
    for whole in (content, ENCRYPTED[:8] + content, ENCRYPTED[:40] + content):
        with pytest.raises(NoiseError):
            decrypt(whole, key, NAME)


def test_errors_name_scan_and_file_and_do_not_tell_key_from_content() -> None:
    changed = ENCRYPTED[:-1] + bytes([ENCRYPTED[-1] ^ 1])
    reasons = set()
    for content, key in ((ENCRYPTED, OTHER), (changed, KEY), (ENCRYPTED[:50], KEY), (forge(b"", FILE_KEY, NAME), KEY)):
        with pytest.raises(KeyMismatchError) as caught:
            decrypt(content, key, NAME, file="noise/x")
        reasons.add(str(caught.value))
    assert reasons == {f"{NAME}, noise/x: cannot be opened: wrong key, or the file was changed"}
    with pytest.raises(NoiseError, match=r"images/ä\.npz, noise/x: is not encrypted, or in another version") as caught:
        decrypt(b"PK\x03\x04", KEY, NAME, file="noise/x")
    assert not isinstance(caught.value, KeyMismatchError)


@given(st.binary(max_size=50), NAMES, st.binary(max_size=50), NAMES)
def test_the_key_of_a_file_opens_that_file_only(content: bytes, name: str, content2: bytes, name2: str) -> None:
    first, second = encrypt(content, KEY, name), encrypt(content2, KEY, name2)
    if (content, name) == (content2, name2):
        assert first == second
        return
    assert first[8:40] != second[8:40]  # equal content is seen under equal names only
    for key in (file_key(first, KEY, name), FileKey(KEY.secret)):
        for opened_as in (name, name2):
            with pytest.raises(KeyMismatchError, match=CLOSED):
                decrypt(second, key, opened_as)


def test_the_key_of_a_file_is_not_given_for_a_changed_file() -> None:
    with pytest.raises(KeyMismatchError, match=CLOSED):
        file_key(ENCRYPTED[:-1], KEY, NAME)


def test_a_recipient_cannot_pass_other_content_to_the_owner() -> None:
    forged = forge(b"other content", FILE_KEY, NAME)
    assert decrypt(forged, FILE_KEY, NAME) == b"other content"  # as the docstring says
    with pytest.raises(KeyMismatchError, match=CLOSED):
        decrypt(forged, KEY, NAME)


def test_what_the_cipher_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted, "LARGEST", len(CONTENT))
    assert encrypt(CONTENT, KEY, NAME) == ENCRYPTED
    with pytest.raises(NoiseError, match=r"images/ä\.npz: too large to be encrypted"):
        encrypt(CONTENT + b"!", KEY, NAME)


def test_larger_files() -> None:
    content = bytes(range(256)) * 2**14
    ciphertext = encrypt(content, KEY, NAME)
    assert decrypt(ciphertext, KEY, NAME) == content and content[:64] not in ciphertext
