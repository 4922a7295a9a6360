# SPDX-License-Identifier: Apache-2.0
"""The owner's files: plain, or with a key each encrypted in a file of the same name and ``.sealed``.

Where a file is asked for by its plain path, the key tells which of the two is meant. The other one is never read
instead: noise that somebody put beside encrypted noise is not the owner's.

An encrypted file, with K the owner's 32 bytes, N the name in UTF-8, and ``|`` for one after the other::

    D     HMAC-SHA256(key HKDF-Expand(K, "monai_unlearnable seal 1 digest"), length of N | N | content)
    F     HKDF-Expand(K, "monai_unlearnable seal 1 file" | D | N)
    H     "mu-seal" | the byte 1 | D
    file  H | AES-256-GCM(key F, nonce of 12 zero bytes, associated data H | N, content)

HKDF-Expand is that of RFC 5869 with SHA-256 and gives 32 bytes. The length is 8 bytes, big-endian. H has 40 bytes, and
the ciphertext ends with a tag of 16.

Nothing is random, so the same input gives the same bytes. That is safe, as in the SIV modes, because D takes the part
of the nonce: other content or another name has another D, and thus another F. So each F encrypts one message only, and
all that GCM asks of a nonce is not to come twice under one key. To those without K, D tells nothing about the content.

What it leaks: the length of the content, and that two files hold equal content under equal name and key. What it cannot
prevent: an older file with the same name opens as well, so a reader must compare the digests that it expects. And who
has F can encrypt other content that F opens. The owner's key does not open that: it computes D anew from the content.

The ``AESSIV`` of cryptography is no replacement. It would write other bytes, so that files of earlier releases would
need a second reader. And one AES-SIV key opens all files, while here each file has a key F of its own, which the owner
can give to a recipient."""

from __future__ import annotations

import hmac
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from monai_unlearnable.crypto.keys import FileKey, Key, KeyRing, OwnerKey, owner
from monai_unlearnable.errors import KeyMismatchError, NoiseError
from monai_unlearnable.utils.files import below, write_atomic

__all__ = [
    "SUFFIX",
    "decrypt",
    "encrypt",
    "file_key",
    "is_encrypted",
    "is_owned",
    "misplaced",
    "open_owned",
    "place",
    "places",
    "read_owned",
    "write_owned",
]

SUFFIX = ".sealed"
KINDS = (".npz", ".json", ".pt", ".safetensors")  # of the owner's files

MAGIC = b"mu-seal\x01"
SIZE = 32  # bytes of keys and digests
HEADER = len(MAGIC) + SIZE
LABEL = b"seal 1 "
NONCE = bytes(12)
LARGEST = 2**31 - 2**10  # bytes; one call of the cipher takes less than 2 GiB


def encrypt(content: bytes, key: OwnerKey, name: str) -> bytes:
    """Encrypt and authenticate the content of a file; the same input gives the same bytes.

    Args:
        content: bytes to encrypt, less than 2 GiB.
        key: the owner's key.
        name: name of the file. It is bound to the content, so that no file passes for another, and is not written down.

    Raises:
        NoiseError: when the content is too large.
    """
    if len(content) > LARGEST:
        raise NoiseError("too large to be encrypted", case=name, value=len(content), limit=LARGEST)
    header = _header(content, key, name)
    return header + AESGCM(_file_secret(header, key, name)).encrypt(NONCE, content, header + _encode(name))


def decrypt(encrypted: bytes, key: OwnerKey | FileKey, name: str, *, file: str | Path | None = None) -> bytes:
    """The content of an encrypted file.

    Args:
        encrypted: result of :func:`encrypt`.
        key: the owner's key, or that of the file.
        name: name that it was encrypted under.
        file: path of the file, for the errors.

    Raises:
        NoiseError: when it is not an encrypted file, or one of another version of the format.
        KeyMismatchError: when key or name are others, or bytes were changed; it is impossible to tell which.
    """
    if not is_encrypted(encrypted):
        raise NoiseError("is not encrypted, or in another version of the format", case=name, file=file)
    header = encrypted[:HEADER]
    secret = key.secret if isinstance(key, FileKey) else _file_secret(header, key, name)
    try:
        content = AESGCM(secret).decrypt(NONCE, encrypted[HEADER:], header + _encode(name))
    except (InvalidTag, OverflowError) as error:  # the cipher made nothing that is too large for it
        raise _mismatch(name, file) from error
    # Whoever was given the key of the file can encrypt with it; the digest takes the owner's.
    if isinstance(key, OwnerKey) and not hmac.compare_digest(header, _header(content, key, name)):
        raise _mismatch(name, file)
    return content


def file_key(encrypted: bytes, key: OwnerKey, name: str, *, file: str | Path | None = None) -> FileKey:
    """The key that opens this file and no other, not even the next version of it.

    The file is opened first: a key of a header alone could be one that opens nothing.

    Args:
        encrypted: result of :func:`encrypt`.
        key: the owner's key.
        name: name that it was encrypted under.
        file: path of the file, for the errors.

    Raises:
        NoiseError: when :func:`decrypt` raises it.
    """
    decrypt(encrypted, key, name, file=file)
    return FileKey(_file_secret(encrypted[:HEADER], key, name))


def is_encrypted(content: bytes) -> bool:
    """Whether the content of a file begins as an encrypted one of this version does; it proves nothing."""
    return content.startswith(MAGIC)


def _header(content: bytes, key: OwnerKey, name: str) -> bytes:
    encoded = _encode(name)
    digest = hmac.new(key.derive(LABEL + b"digest"), len(encoded).to_bytes(8, "big") + encoded, "sha256")
    digest.update(content)
    return MAGIC + digest.digest()


def _file_secret(header: bytes, key: OwnerKey, name: str) -> bytes:
    return key.derive(LABEL + b"file" + header.removeprefix(MAGIC) + _encode(name))


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # file names that are not text have lone surrogates


def _mismatch(name: str, file: str | Path | None) -> KeyMismatchError:
    return KeyMismatchError("cannot be opened: wrong key, or the file was changed", case=name, file=file)


def place(path: str | Path, key: Key | None) -> Path:
    """The place of a file whose plain path is ``path``; the name of the encrypted one is accepted too."""
    return places(path)[key is not None]


def places(path: str | Path) -> tuple[Path, Path]:
    """The places of a file when it is plain, and when it is encrypted."""
    plain = Path(path).with_name(Path(path).name.removesuffix(SUFFIX))
    return plain, plain.with_name(plain.name + SUFFIX)


def is_owned(path: str | Path) -> bool:
    """Whether the file exists, plain or encrypted."""
    return any(path.is_file() for path in places(path))


def open_owned(path: str | Path, key: Key | None, name: str | None = None) -> BinaryIO:
    """Open a file of the owner; decrypted content stays in memory.

    Args:
        path: path of the plain file, see :func:`place`.
        key: key of the encryption; None for plain files.
        name: name that the file was encrypted under; by default that of the plain file.

    Raises:
        KeyMismatchError: naming the file, when it is encrypted and no key is given, the other way round, or the key
            does not open it.
        OSError: when it cannot be read.
    """
    plain, encrypted = places(path)
    if key is None:
        if encrypted.exists() and not plain.exists():
            raise KeyMismatchError("is encrypted: give its key (--key FILE)", file=encrypted)
        return plain.open("rb")
    if plain.exists() and not encrypted.exists():
        raise KeyMismatchError("is not encrypted: give no key", file=plain)
    name = name or plain.name
    own = key.find(name) if isinstance(key, KeyRing) else key
    return io.BytesIO(decrypt(encrypted.read_bytes(), own, name, file=encrypted))


def read_owned(path: str | Path, key: Key | None, name: str | None = None) -> bytes:
    """The content of a file; see :func:`open_owned`."""
    with open_owned(path, key, name) as stream:
        return stream.read()


def write_owned(path: str | Path, content: bytes, key: Key | None, name: str | None = None) -> None:
    """Write a file of the owner, atomic; with a key only encrypted content reaches the disk.

    Raises:
        KeyFileError: when the key can only open.
        OutputError: naming the file, when it cannot be written.
    """
    if key is not None:
        content = encrypt(content, owner(key), name or place(path, None).name)
    write_atomic(place(path, key), content)


def misplaced(folder: Path, key: Key | None) -> Iterator[Path]:
    """Plain files of the owner below a folder if there is a key, encrypted ones if there is none."""
    for path in below(folder):
        if path.name.endswith(KINDS if key else SUFFIX) and path.is_file():
            yield path
