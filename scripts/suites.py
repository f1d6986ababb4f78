#!/usr/bin/env python3
"""Writes a page and a contact sheet for each suite: pictures, reward, splits, what random play and doing nothing earn.

scripts/suites.py                                  all suites of configs/suite/ that run without an optional package
scripts/suites.py walker_speed point_mass --episodes=5 --out=docs/suites
"""

from __future__ import annotations

import sys
from pathlib import Path

from envs import load_suite
from envs.suites import SUITE_FOLDER
from hrl import hardware
from hrl.command_line import options, positive, run_or_explain
from hrl.config import ConfigError
from hrl.suite_pages import write_page


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    names, chosen = options(arguments, {"--episodes": positive, "--out": Path})
    hardware.configure(0)
    try:
        suites = [load_suite(name) for name in names or sorted(path.stem for path in SUITE_FOLDER.glob("*.yaml"))]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    out, episodes = chosen.get("--out", Path("docs/suites")), chosen.get("--episodes", 2)
    for suite in suites:
        command = f"scripts/suites.py {suite.name} --episodes={episodes}"
        print(write_page(suite, out, episodes, command))


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
