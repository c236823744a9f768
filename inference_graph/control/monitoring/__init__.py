"""Recording rules and alerts: one source for every Prometheus."""
