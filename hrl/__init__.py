"""Hierarchical reinforcement learning from pixels, and the flat baselines that it is compared with."""
