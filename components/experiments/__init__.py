"""The experiment ledger: what was tried, why, what was expected, and whether it came out so."""
