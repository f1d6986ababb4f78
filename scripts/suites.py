#!/usr/bin/env python3
"""Writes a page and a contact sheet for each suite: images, reward, splits, what random play and
doing nothing earn.

scripts/suites.py                                  all suites of configs/suite/ whose packages are installed
scripts/suites.py walker_speed point_mass --episodes=5 --out=docs/suites

What the two earned is stored as scores in --baselines (configs/reference_scores): reports normalise by
random play.
"""

from __future__ import annotations

import sys
from pathlib import Path

from envs import Suite, load_suite
from envs.resources import REFERENCE_SCORES, config_files
from hrl.cli import options, positive, run_or_explain
from hrl.config import ConfigError
from hrl.reporting.suite_pages import write_page
from hrl.run import hardware


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    names, chosen = options(arguments, {"--episodes": positive, "--out": Path, "--baselines": Path})
    hardware.configure(0)
    out, episodes = chosen.get("--out", Path("docs/suites")), chosen.get("--episodes", 2)
    for suite in _suites(names):
        command = f"scripts/suites.py {suite.name} --episodes={episodes}"
        print(
            write_page(suite, out, chosen.get("--baselines", REFERENCE_SCORES), episodes, command)
        )


def _suites(names: list[str]) -> list[Suite]:
    """The named ones, or all whose packages are installed."""
    found = []
    for name in names or config_files("suite"):
        try:
            found.append(load_suite(name).check_installed())
        except ValueError as error:
            if names:
                raise ConfigError(str(error)) from error
            print(f"left out: {name}: {error}")
    return found


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
