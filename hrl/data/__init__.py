"""Observations, the replay buffer, and the collectors that fill rollouts and replay."""
