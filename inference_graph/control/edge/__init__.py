"""A device without a network: a bundle to run from, frames routed in process, a log that syncs."""
