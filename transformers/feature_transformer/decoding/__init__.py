"""Encoded images from unknown sources: examined by our parsers, decoded in a separate process."""
