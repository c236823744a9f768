"""What is measured and when somebody is told: one source for every Prometheus there is."""
