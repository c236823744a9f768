"""What hostile clients cost a good stream."""
