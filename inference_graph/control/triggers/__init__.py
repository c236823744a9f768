"""What starts a retraining: rules, alerts and people; and what keeps it from starting too often."""
