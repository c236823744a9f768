"""Frames from Kafka topics: read, answered by the gateway's own pipeline, and answered once."""
