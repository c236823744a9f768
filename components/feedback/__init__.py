"""Feedback from people: quarantined, reviewed, and merged with the training data."""
