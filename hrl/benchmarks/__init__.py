"""Measure the speed of environments, learners, updates and replay as ratios within one run."""
