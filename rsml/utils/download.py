"""Fetch a published file, and keep it only with the hash that it is known by."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from rsml.utils.errors import UserError
from rsml.utils.files import replacing

logger = logging.getLogger(__name__)
_PIECE = 1 << 20


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def fetch(url: str, path: Path, sha256: str, *, subject: str, advice: str) -> Path:
    """Fetches a file.

    Args:
        url: Where it is published.
        path: Where it goes; written whole or not at all.
        sha256: How its SHA-256 begins.
        subject: What it is, for the fault.
        advice: What to do without a network.
    """
    import urllib.request  # Here, since every start of a command would pay for it.

    logger.info("fetching %s to %s", url, path.parent)
    try:
        with replacing(path) as beside:
            with urllib.request.urlopen(url, timeout=30) as answer, beside.open("wb") as out:
                while piece := answer.read(_PIECE):
                    out.write(piece)
            found = sha256_of(beside)
            if not found.startswith(sha256):
                raise UserError(
                    f"{subject}: {url} came with another hash ({found}, expected {sha256}); nothing was kept, try again"
                )
    except OSError as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise UserError(f"{subject} could not be fetched from {url} ({reason}); {advice}") from None
    return path
