"""Write a folder with report.html, summary.json, every figure and every table."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from hrl.reporting.exports import write_tables
from hrl.reporting.figures.style import RC_PARAMS, ReportFigure
from hrl.reporting.finetuned import finetuning_csv
from hrl.reporting.page import page
from hrl.reporting.runs import Runs
from hrl.reporting.sections import all_sections, draw_figures, header_of, title_of
from hrl.reporting.study import Study, study_of
from hrl.reporting.written_files import replace_written_files
from hrl.run.atomic_files import atomic_file, remove_abandoned, write_text_atomic

PNG_DPI = 200


def write_report(runs: Runs, out_dir: str | Path, command: str, *, latex: bool = False) -> Path:
    """Write report.html (self-contained), summary.json, figures/*.png, *.pdf and tables/*.csv.

    With fine-tuning runs also finetuning.csv and finetuning_curves.csv.

    The same runs give the same files. Those of an earlier report that this one does not have are
    removed, unless they were changed since.

    Args:
        runs: what is reported.
        out_dir: where the files go; made where it is missing.
        command: what rebuilds the report; it is printed under every figure.
        latex: whether to write every table as tables/*.tex too.

    Returns:
        The page's path.
    """
    folder = Path(out_dir)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for part in (folder, folder / "figures", folder / "tables"):
        remove_abandoned(part, "*")
    with mpl.rc_context(RC_PARAMS):
        study = study_of(runs)
        figures = draw_figures(study)
        written = _save_figures(
            [figure for drawn in figures.values() for figure in drawn], folder / "figures"
        )
        sections = all_sections(study, figures, command)
    written += write_tables(sections, folder / "tables", latex=latex)
    written += write_finetuning_csv(study, folder)
    summary, report = folder / "summary.json", folder / "report.html"
    write_text_atomic(summary, json.dumps(study.summary, indent=2) + "\n")
    write_text_atomic(report, page(title_of(study), header_of(study), sections))
    replace_written_files(folder, [*written, summary, report])
    return report


def write_finetuning_csv(study: Study, folder: Path) -> list[Path]:
    """Write finetuning.csv and finetuning_curves.csv; return their paths.

    Nothing is written where no run was fine-tuned.
    """
    tables = finetuning_csv(study.finetuned) if study.finetuned else {}
    for name, table in tables.items():
        write_text_atomic(folder / f"{name}.csv", table.to_csv(index=False))
    return [folder / f"{name}.csv" for name in tables]


def save_figure(figure: Figure, path: Path, **settings: Any) -> None:
    """Write a figure, atomically, in the format that the path's suffix names.

    Raises:
        OSError: the file system refused; it names the file.
    """
    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:], **settings)


def fix_layout(figure: ReportFigure) -> None:
    """Solve the layout once and keep it: solving it anew for each format takes most of the time."""
    figure.drawing.draw_without_rendering()
    figure.drawing.set_layout_engine("none")


def _save_figures(figures: Iterable[ReportFigure], folder: Path) -> list[Path]:
    """Write every figure as PNG and PDF; return the files' paths."""
    written = []
    for figure in figures:
        fix_layout(figure)
        png, pdf = (folder / f"{figure.name}.{kind}" for kind in ("png", "pdf"))
        save_figure(figure.drawing, png, dpi=PNG_DPI, metadata={"Software": None})
        save_figure(figure.drawing, pdf, metadata={"CreationDate": None})
        written += [png, pdf]
    return written
