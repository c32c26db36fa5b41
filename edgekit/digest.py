"""sha256 under one name: hashlib loads OpenSSL, milliseconds that an app need not pay for importing edgekit's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hashlib


def sha256(data: bytes = b"") -> hashlib._Hash:
    """A running hash that has seen `data`."""
    import hashlib

    return hashlib.sha256(data)
