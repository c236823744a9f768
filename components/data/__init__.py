"""Data sets: fetched, read, checked, split, and turned into observations."""
