"""Write one HTML report on evaluated runs, as `pixel-hrl report` does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hrl.cli.parser import CommandParser, folder_path

EXAMPLES = """examples:
  pixel-hrl report runs/point_mass
  pixel-hrl report 'runs/point_mass/*/seed_*' --out=report"""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("report", "Write one HTML report on evaluated runs.", EXAMPLES)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run folders, globs, or folders that hold run folders",
    )
    parser.add_argument(
        "--out",
        type=folder_path,
        default=Path("report"),
        metavar="DIR",
        help="where to write (default: report)",
    )
    parser.add_argument(
        "--latex", action="store_true", help="write every table as LaTeX too, beside its CSV file"
    )
    parser.add_argument(
        "--reference-scores",
        type=folder_path,
        metavar="DIR",
        help="folder of SUITE.csv with the returns of random actions (default: those of "
        "the configuration folders)",
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Write the report and print its summary."""
    from hrl.reporting import left_out_note, load_runs, summary_table, write_report

    runs = load_runs(options.runs, options.reference_scores)
    report = write_report(runs, options.out, command, latex=options.latex)
    print(summary_table(json.loads((report.parent / "summary.json").read_text())))
    if note := left_out_note(runs):
        print(f"\n{note}")
    print(f"\nreport: {report}\nfigures: {report.parent / 'figures'}")
    print(f"tables: {report.parent / 'tables'}")
