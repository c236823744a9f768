"""The training pipeline: its definition, its steps and its local run."""
