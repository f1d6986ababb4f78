"""The optimizer, return estimators, running normalizers, and compiled or recorded updates."""
