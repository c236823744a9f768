"""Preparation of frames in Apache Flink, in an environment of its own."""
