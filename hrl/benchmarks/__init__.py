"""Measure speed as ratios within one run: environments, learners, updates and the replay buffer."""
