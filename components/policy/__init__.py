"""The policy's training: labels, cloning, PPO, export, registration."""
