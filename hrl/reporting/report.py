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
from hrl.run.atomic_files import atomic_file, remove_abandoned, write_text_atomic

PNG_DPI = 200


def write_report(runs: Runs, out_dir: str | Path, command: str, *, latex: bool = False) -> Path:
    """Write report.html (self-contained), summary.json, figures/*.png, *.pdf and tables/*.csv.

    With fine-tuning runs also finetuning.csv and finetuning_curves.csv.

    The same runs give the same files.

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
        _save_figures(
            [figure for drawn in figures.values() for figure in drawn], folder / "figures"
        )
        sections = all_sections(study, figures, command)
    write_tables(sections, folder / "tables", latex=latex)
    write_finetuning_csv(study, folder)
    write_text_atomic(folder / "summary.json", json.dumps(study.summary, indent=2) + "\n")
    html = page(title_of(study), header_of(study), sections)
    write_text_atomic(folder / "report.html", html)
    return folder / "report.html"


def write_finetuning_csv(study: Study, folder: Path) -> None:
    """Write finetuning.csv and finetuning_curves.csv; nothing where no run was fine-tuned."""
    if study.finetuned:
        for name, table in finetuning_csv(study.finetuned).items():
            write_text_atomic(folder / f"{name}.csv", table.to_csv(index=False))


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


def _save_figures(figures: Iterable[ReportFigure], folder: Path) -> None:
    for figure in figures:
        fix_layout(figure)
        save_figure(
            figure.drawing, folder / f"{figure.name}.png", dpi=PNG_DPI, metadata={"Software": None}
        )
        save_figure(figure.drawing, folder / f"{figure.name}.pdf", metadata={"CreationDate": None})
