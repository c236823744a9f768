"""Canary rollouts: a new revision gets a share of the traffic, and what the log says decides."""
