"""Floor 1: a frame decoded under limits, the observation and its schema, the error root."""
