# SPDX-License-Identifier: Apache-2.0
"""Small files sealed with the owner's key: without it nobody reads them, and no change to one goes unseen.

A sealed file, with K the owner's 32 bytes, N the name in UTF-8, and ``|`` for one after the other::

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
prevent: an older file with the same name opens as well, so a reader has to compare the digests that it expects. And who
has F can seal other content that F opens. The owner's key does not open that: it computes D anew from the content."""

from __future__ import annotations

import hmac
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from monai_unlearnable.crypto.keys import FileKey, OwnerKey
from monai_unlearnable.errors import KeyMismatchError, NoiseError

__all__ = ["file_key", "is_sealed", "seal", "unseal"]

MAGIC = b"mu-seal\x01"
SIZE = 32  # bytes of keys and digests
HEADER = len(MAGIC) + SIZE
LABEL = b"seal 1 "
NONCE = bytes(12)
LARGEST = 2**31 - 2**10  # bytes; one call of the cipher takes less than 2 GiB


def seal(content: bytes, key: OwnerKey, name: str) -> bytes:
    """Encrypt and authenticate the content of a file; the same input gives the same bytes.

    Args:
        content: less than 2 GiB.
        key: the owner's.
        name: of the file. It is bound to the content, so that no file passes for another, and is not written down.

    Raises:
        NoiseError: when the content is too large.
    """
    if len(content) > LARGEST:
        raise NoiseError("too large to be sealed", case=name, value=len(content), limit=LARGEST)
    header = _header(content, key, name)
    return header + AESGCM(_file_secret(header, key, name)).encrypt(NONCE, content, header + _encode(name))


def unseal(sealed: bytes, key: OwnerKey | FileKey, name: str, *, file: str | Path | None = None) -> bytes:
    """The content of a sealed file.

    Args:
        sealed: what :func:`seal` gave.
        key: the owner's, or that of the file.
        name: under which it was sealed.
        file: where it lies, for the errors.

    Raises:
        NoiseError: when it is no sealed file, or one of another version of the format.
        KeyMismatchError: when key or name are others, or bytes were changed; which of these cannot be known.
    """
    if not is_sealed(sealed):
        raise NoiseError("is not sealed, or in another version of the format", case=name, file=file)
    header = sealed[:HEADER]
    secret = key.secret if isinstance(key, FileKey) else _file_secret(header, key, name)
    try:
        content = AESGCM(secret).decrypt(NONCE, sealed[HEADER:], header + _encode(name))
    except (InvalidTag, OverflowError) as error:  # the cipher made nothing that is too large for it
        raise _mismatch(name, file) from error
    # Whoever was given the key of the file can encrypt with it; the digest takes the owner's.
    if isinstance(key, OwnerKey) and not hmac.compare_digest(header, _header(content, key, name)):
        raise _mismatch(name, file)
    return content


def file_key(sealed: bytes, key: OwnerKey, name: str, *, file: str | Path | None = None) -> FileKey:
    """The key that opens this file and no other, not even the next version of it.

    The file is opened first: a key of a header alone could be one that opens nothing.

    Args:
        sealed: what :func:`seal` gave.
        key: the owner's.
        name: under which it was sealed.
        file: where it lies, for the errors.

    Raises:
        NoiseError: as :func:`unseal` does.
    """
    unseal(sealed, key, name, file=file)
    return FileKey(_file_secret(sealed[:HEADER], key, name))


def is_sealed(content: bytes) -> bool:
    """Whether the content of a file begins as a sealed one of this version does; it proves nothing."""
    return content.startswith(MAGIC)


def _header(content: bytes, key: OwnerKey, name: str) -> bytes:
    encoded = _encode(name)
    digest = hmac.new(key.derive(LABEL + b"digest"), len(encoded).to_bytes(8, "big") + encoded, "sha256")
    digest.update(content)
    return MAGIC + digest.digest()


def _file_secret(header: bytes, key: OwnerKey, name: str) -> bytes:
    return key.derive(LABEL + b"file" + header.removeprefix(MAGIC) + _encode(name))


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # file names that are no text have lone surrogates


def _mismatch(name: str, file: str | Path | None) -> KeyMismatchError:
    return KeyMismatchError("cannot be opened: wrong key, or the file was changed", case=name, file=file)
