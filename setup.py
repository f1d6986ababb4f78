"""The list of packages, which setup.cfg cannot hold: `configs/` is installed under another name."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["envs*", "hrl*"]), "pixel_hrl_configs"],
    package_dir={"pixel_hrl_configs": "configs"},
)
