"""Simulate MuJoCo models, draw them by ray tracing, and vary their dynamics and appearance."""
