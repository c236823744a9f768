"""Batch runs on Kubeflow Pipelines: shards that run side by side, and their results together."""
