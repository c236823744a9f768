"""Signed model files: keys, detached signatures, and the trust file."""

from pathlib import Path

SIGNATURE_HEADER = "gearshift-signature"
"""Header with the content of a policy's signature file, in Base64."""
SIGNATURE_LIMIT = 16 * 1024
"""Bytes of a signature file at most; they have about 1,200."""
SIGNATURE_SUFFIX = ".sig"
"""Behind the whole name of the file that is signed."""


def signature_file(file: Path, sha256: str = "") -> Path:
    """Where the signature of a file lies, if it has one.

    Args:
        file: that is signed.
        sha256: the file's digest: of the signature that waits there while the file is replaced.
    """
    digest = f".{sha256[:12]}" if sha256 else ""
    return file.with_name(file.name + digest + SIGNATURE_SUFFIX)
