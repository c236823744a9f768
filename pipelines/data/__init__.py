"""The data pipeline: a source of any size, cut into shards, up to a version."""
