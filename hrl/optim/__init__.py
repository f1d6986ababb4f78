"""Provide an optimizer, return estimators, running normalizers and faster updates."""
