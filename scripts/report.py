#!/usr/bin/env python3
"""Run folders in, one HTML report out."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from hrl.reporting import RunFolderError, load_runs, summary_table, write_report


def main(arguments: list[str] | None = None) -> int:
    """Write the report and print the summary; 2 with one line on stderr when the runs cannot be
    read.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders, globs, or folders that hold run folders",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report"),
        metavar="DIR",
        help="where to write (default: report)",
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="DIR",
        help="folder of SUITE.csv with the returns of random play",
    )
    options = parser.parse_args(arguments)
    command = shlex.join(
        ["python", "scripts/report.py", *(sys.argv[1:] if arguments is None else arguments)]
    )
    try:
        runs = load_runs(
            options.runs, **({"baselines": options.baselines} if options.baselines else {})
        )
        report = write_report(runs, options.out, command)
    except (RunFolderError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(summary_table(json.loads((report.parent / "summary.json").read_text())))
    print(f"\nreport: {report}\nfigures: {report.parent / 'figures'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
