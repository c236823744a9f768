"""The policy against every alternative, the release gate, the reports."""
