"""From run folders to one self-contained report: tables, figures, videos, and what differs between
the methods.
"""

from hrl.reporting.report import write_report
from hrl.reporting.runs import Run, Runs, load_runs
from hrl.reporting.suite_record import RunFolderError
from hrl.reporting.summary import Summary, summarise, summary_table

__all__ = [
    "Run",
    "RunFolderError",
    "Runs",
    "Summary",
    "load_runs",
    "summarise",
    "summary_table",
    "write_report",
]
