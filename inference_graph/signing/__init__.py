"""Signed model files: keys, detached signatures, and the file that says which keys are trusted."""
