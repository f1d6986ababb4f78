"""Archive a study in kilobytes: the scores, thinned curves, figures and summary of its report."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from hrl.reporting.controls import write_controls
from hrl.reporting.figures.style import RC_PARAMS
from hrl.reporting.report import fix_layout, save_figure, write_finetuning_csv
from hrl.reporting.runs import load_runs
from hrl.reporting.sections import draw_figures
from hrl.reporting.study import study_of
from hrl.reporting.tables import read_json_lines
from hrl.run.atomic_files import write_text_atomic
from hrl.run.folder import RunFolder

MOST_POINTS = 60  # of a thinned curve
DIGITS = 5  # significant ones of a thinned curve
KEPT_METRICS = ("train/return", "goal/")
FIGURE_FORMAT = {"quality": 80, "method": 6}  # WebP
FIGURE_DPI = 110


def archive_run(run: Path, out: Path) -> None:
    """Copy the files of a run that a report needs, with logs thinned to learning_curves.csv.

    Args:
        run: the run's folder.
        out: where it goes; made where it is missing.
    """
    files = RunFolder(run)
    out.mkdir(parents=True, exist_ok=True)
    kept = (
        files.config,
        files.environment,
        files.evaluation,
        files.scores,
        files.shuffled_scores,
        files.skill_usage,
        files.forgetting,
        files.open_loop_error,
        files.goal_reaching,
        files.goal_distance,
    )
    for path in kept:
        if path.exists():
            shutil.copyfile(path, out / path.name)
    if files.metrics.exists():
        curves = thinned_curves(
            read_json_lines(files.metrics, ("frames",)),
            read_json_lines(files.timing, ("frames", "seconds")),
        )
        name = RunFolder(out).learning_curves
        write_text_atomic(name, curves.to_csv(index=False, float_format=f"%.{DIGITS}g"))


def thinned_curves(metrics: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics that the report draws, at few points.

    Evaluations stay as they are. Other metrics are means over as many neighbouring rows as leave
    `MOST_POINTS` of them.

    Args:
        metrics: read from metrics.jsonl.
        timing: read from timing.jsonl; it may be empty.

    Returns:
        Columns frames, seconds (of training), metrics; missing where nothing was logged.
    """
    evaluations = [key for key in metrics if str(key).startswith("eval/")]
    others = [key for key in metrics if str(key).startswith(KEPT_METRICS)]
    evaluated = metrics[["frames", *evaluations]].dropna(how="all", subset=evaluations)
    group = np.arange(len(metrics)) * min(MOST_POINTS, len(metrics)) // max(1, len(metrics))
    means = metrics[["frames", *others]].groupby(group).mean()
    means["frames"] = means["frames"].round()
    curves = pd.concat([evaluated, means]).groupby("frames", as_index=False).first()
    curves.insert(1, "seconds", _seconds(curves["frames"], timing))
    return curves.astype({"frames": np.int64})


def archive_study(runs: Sequence[str | Path], out: Path) -> None:
    """Archive each run below `out` as METHOD/seed_N, and write the study's summary and figures.

    Fine-tuning runs go below finetune/SUITE/TARGET.

    Raises:
        RunFolderError: the runs cannot stand in one report.
    """
    loaded = load_runs(runs)
    for run in loaded.everything:
        target = run.finetune.get("target")
        below = out / "finetune" / run.suite.name / str(target) if target else out
        archive_run(run.path, below / run.method / f"seed_{run.seed}")
    if loaded.controls:
        write_controls(out, loaded.methods, loaded.controls)
    rebuild_figures(out)


def rebuild_figures(study: Path) -> list[Path]:
    """Write summary.json, figures/*.webp and finetuning*.csv of an archived study.

    Returns:
        The figures' paths.

    Raises:
        RunFolderError: the study holds no runs, or they cannot stand in one report.
    """
    runs = load_runs([study])
    folder = study / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    written = []
    with mpl.rc_context(RC_PARAMS):
        prepared = study_of(runs)
        for drawn in draw_figures(prepared).values():
            for figure in drawn:
                fix_layout(figure)
                written.append(folder / f"{figure.name}.webp")
                save_figure(figure.drawing, written[-1], dpi=FIGURE_DPI, pil_kwargs=FIGURE_FORMAT)
    summary = json.dumps(prepared.summary, indent=1) + "\n"
    write_text_atomic(study / "summary.json", summary)
    write_finetuning_csv(prepared, study)
    return written


def _seconds(frames: Iterable[float], timing: pd.DataFrame) -> np.ndarray | float:
    """Return the training time at some frames, which begins at 0; NaN without a log of it."""
    if timing.empty:
        return np.nan
    known = timing[["frames", "seconds"]].to_numpy(dtype=np.float64)
    known = np.concatenate([np.zeros((1, 2)), known])
    at = np.asarray(frames, dtype=np.float64)
    return np.asarray(np.interp(at, known[:, 0], known[:, 1]))
