"""Define observations, and store the experience that agents learn from: rollouts and replay."""
