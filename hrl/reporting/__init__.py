"""Turn run folders into one self-contained report: tables, figures, videos, differing settings."""

from hrl.reporting.report import write_report
from hrl.reporting.runs import Run, Runs, left_out_note, load_runs
from hrl.reporting.suite_record import RunFolderError
from hrl.reporting.summary import Summary, summarise, summary_table

__all__ = [
    "Run",
    "RunFolderError",
    "Runs",
    "Summary",
    "left_out_note",
    "load_runs",
    "summarise",
    "summary_table",
    "write_report",
]
