#!/usr/bin/env python3
"""Write summary and figures of archived studies anew from what is kept of them.

scripts/rebuild_figures.py                              every study in results/ that has runs
scripts/rebuild_figures.py results/quick
scripts/rebuild_figures.py results/NAME --archive 'runs/point_mass/*/seed_*'

With --archive, the runs are first copied into the study without their raw logs: scores, summary
and thinned learning curves are what the figures need.
"""

import argparse
from pathlib import Path

from hrl.cli.main import run_or_explain
from hrl.reporting.archive import archive_study, rebuild_figures

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> None:
    """Rebuild the named studies, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY")
    parser.add_argument("--archive", nargs="+", metavar="RUN", help="run folders or globs")
    options = parser.parse_args()
    if options.archive:
        if len(options.studies) != 1:
            parser.error("--archive takes one STUDY, the folder that the runs are copied into")
        archive_study(options.archive, options.studies[0])
        return
    for study in options.studies or sorted({path.parents[2] for path in _configs()}):
        for path in rebuild_figures(study):
            print(path)


def _configs() -> list[Path]:
    return list(RESULTS.glob("*/*/seed_*/config.yaml"))


if __name__ == "__main__":
    raise SystemExit(run_or_explain(main))
