"""Clients of the gateway: streams, policies, canaries."""
