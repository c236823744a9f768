"""Encoded images from anybody: examined by our own parsers, decoded in a process of their own."""
