"""The page Feedback."""
