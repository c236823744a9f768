"""Floor 3: one file per pipeline stage, each a plain function from paths to an artifact."""
