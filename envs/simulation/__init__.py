"""MuJoCo physics, the ray-traced renderer, and how dynamics and appearance are varied."""
