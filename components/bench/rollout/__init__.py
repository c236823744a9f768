"""How often rollouts end as they should: simulated by the hundred, and with real processes."""
