"""Canary rollouts: a new revision gets a share of the traffic, and the log's figures decide."""
