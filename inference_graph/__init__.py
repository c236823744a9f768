"""Floor 2: the ladder of detectors, the policy that routes each frame, and what runs them."""
