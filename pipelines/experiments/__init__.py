"""Launching, following and serving the experiments of the ledger."""
