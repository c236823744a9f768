"""Benchmarks, apart from what they measure."""
