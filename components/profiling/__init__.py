"""What each rung detects in each frame, and how long it takes."""
