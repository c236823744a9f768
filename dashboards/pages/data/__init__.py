"""The page Data: what is in the data sets, and what is odd about them."""
