"""Figures and frames of the prediction log."""
