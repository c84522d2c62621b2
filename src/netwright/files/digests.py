"""Digests of bytes and files: SHA-256, which tells damage, not origin. Floor 0."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_bytes(*parts: bytes | memoryview) -> str:
    """Return ``sha256:<hex>`` of the parts, each preceded by its length."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return f"sha256:{state.hexdigest()}"


def digest_file(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file's content."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
