"""Configuration files and reference scores, installed as the package `pixel_hrl_configs`."""
