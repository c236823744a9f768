"""Signed model files: keys, detached signatures, and the file that says which keys are trusted."""

SIGNATURE_HEADER = "gearshift-signature"
"""Header with the content of a policy's signature file, in Base64."""
SIGNATURE_LIMIT = 16 * 1024
"""Bytes of a signature file at most; they have about 1,200."""
SIGNATURE_SUFFIX = ".sig"
"""Behind the whole name of the file that is signed."""
