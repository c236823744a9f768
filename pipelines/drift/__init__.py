"""The drift pipeline and its demo."""
