"""Optimizer, return estimators, running normalizers, and faster execution of updates."""
