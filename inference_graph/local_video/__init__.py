"""A video routed in this process, without services."""
