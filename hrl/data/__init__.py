"""Observations, and the experience that agents learn from: rollouts and the replay buffer."""
