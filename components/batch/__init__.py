"""Frames of folders, archives, buckets and videos, answered by whole batches of each rung."""
