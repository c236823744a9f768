"""Retraining, and the rules that launch it."""
