# SPDX-License-Identifier: Apache-2.0
"""Signatures of the owner (Ed25519), with a key pair that follows from the owner's key."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from monai_unlearnable.crypto.keyfiles import from_base64, naming_kind, read_file, read_record, to_base64, write_record
from monai_unlearnable.crypto.keys import KEY_FILE, OwnerKey
from monai_unlearnable.errors import KeyFileError

__all__ = ["is_signed", "load_public_key", "public_key", "save_public_key", "sign"]

KIND = "public key"


def _pair(key: OwnerKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.derive(b"sign 1"))


def public_key(key: OwnerKey) -> bytes:
    """The public key, to check the owner's signatures with; its 32 bytes tell nothing about the owner's key."""
    return _pair(key).public_key().public_bytes_raw()


def sign(content: bytes, key: OwnerKey) -> bytes:
    """The owner's signature; the same content gives the same 64 bytes."""
    return _pair(key).sign(content)


def is_signed(content: bytes, signature: bytes, public: bytes) -> bool:
    """Whether a signature is that of the content, by the owner of a public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def save_public_key(key: OwnerKey, path: str | Path) -> None:
    """Write the public key as JSON, for others; see :func:`~monai_unlearnable.crypto.keyfiles.write_new`."""
    write_record(path, KIND, {"ed25519": to_base64(public_key(key))})


def load_public_key(path: str | Path) -> bytes:
    """Read what :func:`save_public_key` wrote.

    Raises:
        KeyFileError: naming the file, when it is missing or broken.
    """
    with naming_kind(path, KIND):
        if read_file(path).startswith(KEY_FILE.encode()):
            raise KeyFileError("it is the owner's key, which is secret; give the file that key public writes")
        public = from_base64(read_record(path, KIND, {"ed25519"})["ed25519"])
        if len(public) != 32:
            raise KeyFileError("a public key has 32 bytes")
        return public
