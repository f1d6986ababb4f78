"""Show how the score changes as tasks move away from the ones that were trained on."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from hrl.reporting import statistics
from hrl.reporting.figures.style import (
    FAINT,
    INK,
    SHADE,
    WIDTH,
    ReportFigure,
    band,
    method_legend,
    panels,
    score_lines,
)
from hrl.reporting.statistics import Array
from hrl.reporting.study import Study, evidence, note_on, words
from hrl.reporting.summary import generator, score_matrix
from hrl.reporting.task_parameter import (
    ParameterSpace,
    Place,
    hull_vertices,
    left_out,
    parameter_spaces,
    signed_distance,
)

SPLIT_MARKERS = ("o", "D", "s", "^", "v", "P", "X", "*")


def generalization_figures(study: Study) -> list[ReportFigure]:
    """Draw the score against the task parameter, per family; then the score of every task."""
    spaces = parameter_spaces(study.runs.suite)
    figures = [
        figure
        for space in spaces
        for figure in DRAWERS[space.dimension](study, space, _suffix(space, spaces))
    ]
    return [*figures, _every_task(study)]


def undrawn_note(study: Study) -> str:
    """Say which tasks the parameter figures leave out, and why."""
    names = left_out(study.runs.suite, parameter_spaces(study.runs.suite))
    if not names:
        return ""
    return (
        "Not drawn against the parameter, because they change something else as well or have no "
        f"number for it: {', '.join(names)}. Their scores stand in the figure of every task."
    )


def _suffix(space: ParameterSpace, spaces: list[ParameterSpace]) -> str:
    return f"_{space.family}" if len(spaces) > 1 else ""


def _scalar_figures(study: Study, space: ParameterSpace, suffix: str) -> list[ReportFigure]:
    figure, (axes,) = panels(1, 1, 3.9)
    methods = _evaluated_methods(study, space, study.runs.methods)
    positions = {place: float(value[0]) for place, value in space.values.items()}
    low, high = float(space.train.min()), float(space.train.max())
    axes.axvspan(low, high, color=SHADE, lw=0, zorder=0)
    axes.text(
        low,
        1.01,
        "trained here",
        transform=axes.get_xaxis_transform(),
        color=FAINT,
        fontsize=8,
        va="bottom",
    )
    _score_curves(axes, study, positions, methods)
    axes.set_xlabel(f"{words(space.parameter)} ({space.family})")
    _legend_with_training(figure, study, methods)
    caption = (
        f"x: the task parameter “{words(space.parameter)}”; the shaded range spans the training "
        "tasks. y: normalised score (0 random play, 1 the reference return; dashed). Filled marks "
        "are training tasks, hollow marks held-out tasks. Lines: mean over runs; bands: 95 % "
        "bootstrap interval over runs. " + evidence(study, methods, _splits(space))
    )
    title = f"Score against {words(space.parameter)}"
    return [
        ReportFigure(f"score_by_parameter{suffix}", title, caption, figure, note_on(study, methods))
    ]


def _plane_figures(study: Study, space: ParameterSpace, suffix: str) -> list[ReportFigure]:
    return [_map(study, space, suffix), _by_distance(study, space, suffix)]


def _map(study: Study, space: ParameterSpace, suffix: str) -> ReportFigure:
    methods = _evaluated_methods(study, space, study.compared)
    columns = min(3, len(methods))
    figure, axes = panels(len(methods), columns, WIDTH / max(columns, 2) * 0.85)
    for axis, method in zip(axes, methods, strict=True):
        _map_panel(axis, study, space, method)
    axes[0].set_ylabel(f"{words(space.parameter)}, second component")
    colours = axes[0].collections[0]
    figure.colorbar(
        colours, ax=axes, label="normalised score", shrink=0.8, aspect=30, extend="both"
    )
    marks = [
        Line2D([], [], ls="", marker=marker, mfc="none", mec=INK, ms=7, label=words(split))
        for split, marker in _split_marks(space).items()
    ]
    hull = Line2D([], [], color=INK, ls="--", lw=1, label="hull of the training tasks")
    figure.legend(handles=[*marks, hull], loc="outside upper left", ncols=5)
    caption = (
        f"One panel per method. x, y: the two components of “{words(space.parameter)}”. Each mark "
        "is a task, its shape the split, its colour (and the number beside it) the normalised "
        "score, mean over runs: 0 is random play, 1 the reference return. Dashed: the convex hull "
        "of the training tasks. " + evidence(study, methods, _splits(space))
    )
    title = f"Score over the plane of {words(space.parameter)}"
    return ReportFigure(f"score_map{suffix}", title, caption, figure)


def _map_panel(axes: Axes, study: Study, space: ParameterSpace, method: str) -> None:
    scores = _mean_scores(study, method)
    for split, marker in _split_marks(space).items():
        places = [place for place in space.values if place[0] == split and place in scores]
        if not places:
            continue
        x, y = np.stack([space.values[place] for place in places]).T
        colours = [scores[place] for place in places]
        axes.scatter(
            x,
            y,
            c=colours,
            marker=marker,
            s=90,
            cmap="viridis",
            vmin=0,
            vmax=1,
            edgecolors=INK,
            linewidths=0.6,
        )
        for place in places:
            axes.annotate(
                f"{scores[place]:z.2f}",
                tuple(space.values[place]),
                (0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7,
                path_effects=[withStroke(linewidth=2, foreground="white")],
                zorder=5,
            )
    corners = hull_vertices(space.train)
    axes.plot(*np.vstack([corners, corners[:1]]).T, color=INK, ls="--", lw=1, zorder=1)
    axes.set_aspect("equal", adjustable="box")
    axes.margins(0.12)
    axes.set_title(method, color=study.styles[method].colour)
    axes.set_xlabel(f"{words(space.parameter)}, first component")


def _by_distance(study: Study, space: ParameterSpace, suffix: str) -> ReportFigure:
    figure, (axes,) = panels(1, 1, 3.6)
    methods = _evaluated_methods(study, space, study.runs.methods)
    points = np.stack(list(space.values.values()))
    # Rounded so that tasks at the same distance share a mark in spite of rounding errors.
    distances = np.round(signed_distance(points, space.train), 6) + 0.0
    positions = dict(zip(space.values, distances.tolist(), strict=True))
    axes.axvspan(min(0.0, distances.min()), 0, color=SHADE, lw=0, zorder=0)
    above: dict[str, Any] = {
        "transform": axes.get_xaxis_transform(),
        "color": FAINT,
        "fontsize": 8,
        "va": "bottom",
    }
    axes.text(0, 1.01, "inside the hull of the training tasks  ", ha="right", **above)
    axes.text(0, 1.01, "  outside", ha="left", **above)
    _score_curves(axes, study, positions, methods)
    axes.set_xlabel(
        f"distance of {words(space.parameter)} from the hull of the training tasks (negative: "
        "inside)"
    )
    _legend_with_training(figure, study, methods)
    caption = (
        "x: distance of the task from the boundary of the convex hull of the training tasks, in "
        "the parameter's own unit; negative (shaded) inside. y: normalised score (0 random play, "
        "1 the reference return; dashed). Tasks at the same distance are averaged. Filled marks "
        "hold training tasks. Lines: mean over runs; bands: 95 % bootstrap interval over runs. "
        + evidence(study, methods, _splits(space))
    )
    return ReportFigure(
        f"score_by_distance{suffix}",
        "Score against distance from training",
        caption,
        figure,
        note_on(study, methods),
    )


def _score_curves(
    axes: Axes, study: Study, positions: dict[Place, float], methods: list[str]
) -> None:
    for method in methods:
        style = study.styles[method]
        places = [
            place
            for place in positions
            if place[0] in study.table.loc[study.table["method"] == method, "split"].values
        ]
        x = np.unique([positions[place] for place in places])
        groups = [[place for place in places if positions[place] == value] for value in x]
        scores = np.stack([_run_scores(study, method, group) for group in groups])[..., None]
        mean = statistics.mean_score(scores)
        interval = statistics.interval(
            scores, statistics.mean_score, generator(method, "parameter"), resamples=2000
        )
        trained = np.array([any(split == "train" for split, _ in group) for group in groups])
        axes.plot(x, mean, color=style.colour, ls=style.line, zorder=3)
        band(axes, x, interval.low, interval.high, style.colour)
        for filled, face in ((trained, style.colour), (~trained, "white")):
            axes.plot(
                x[filled],
                mean[filled],
                ls="",
                marker=style.marker,
                ms=5.5,
                mfc=face,
                mec=style.colour,
                zorder=4,
            )
    score_lines(axes)
    axes.set_ylabel("normalised score")


def _run_scores(study: Study, method: str, places: list[Place]) -> Array:
    """Return the mean score of each run over some tasks, `[run]`."""
    rows = study.table[study.table["method"] == method]
    here = [place in set(places) for place in zip(rows["split"], rows["task"], strict=True)]
    return rows[here].groupby("run")["score"].mean().to_numpy(dtype=np.float64)


def _every_task(study: Study) -> ReportFigure:
    runs = study.runs
    tasks = [(split, task) for split in runs.splits for task in runs.suite.task_names(split)]
    methods = runs.methods
    spacing = 0.8 / len(methods)
    figure = Figure(figsize=(WIDTH, 1.1 + len(tasks) * max(0.22, 0.085 * len(methods) + 0.05)))
    axes = figure.subplots()
    for i, method in enumerate(methods):
        offset = (i - (len(methods) - 1) / 2) * spacing
        _task_rows(axes, study, method, tasks, offset)
        _training_marks(axes, study, method, tasks, offset)
    axes.set_yticks(range(len(tasks)), [task for _, task in tasks])
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for boundary in (i for i in range(1, len(tasks)) if tasks[i][0] != tasks[i - 1][0]):
        axes.axhline(boundary - 0.5, color=FAINT, lw=0.8)
    for split in runs.splits:
        rows = [i for i, place in enumerate(tasks) if place[0] == split]
        axes.text(
            1.01,
            float(np.mean(rows)),
            words(split),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
        )
    score_lines(axes, "x")
    axes.set_xlabel("normalised score")
    method_legend(figure, study, methods)
    caption = (
        "One row per task, grouped by split (right). x: normalised score (0 random play, 1 the "
        "reference return; dashed). Large marks: mean over runs; bars: 95 % bootstrap interval "
        "over runs; small dots: single runs; upright lines: the same method on the training task "
        "that the task varies, unchanged. " + evidence(study, methods)
    )
    return ReportFigure(
        "score_by_task", "Score of every task", caption, figure, note_on(study, methods)
    )


def _task_rows(axes: Axes, study: Study, method: str, tasks: list[Place], offset: float) -> None:
    style = study.styles[method]
    for split in study.runs.splits:
        scores = score_matrix(study.table, method, split)
        if scores.size == 0:
            continue
        y = np.array([i for i, place in enumerate(tasks) if place[0] == split]) + offset
        by_task = scores.T[..., None]  # [task, run, 1]: every task has an interval of its own
        interval = statistics.interval(
            by_task, statistics.mean_score, generator(method, split), resamples=2000
        )
        axes.plot(scores.T, y, ls="", marker=".", ms=3, color=style.colour, alpha=0.45, zorder=2)
        axes.hlines(y, interval.low, interval.high, color=style.colour, lw=2, alpha=0.55, zorder=2)
        axes.plot(
            scores.mean(axis=0), y, ls="", marker=style.marker, ms=5, color=style.colour, zorder=3
        )


def _training_marks(
    axes: Axes, study: Study, method: str, tasks: list[Place], offset: float
) -> None:
    """Draw beside varied tasks the score of the training task that they vary."""
    suite = study.runs.suite
    scores = _mean_scores(study, method)
    varied = {
        (split, task.name): suite.varied_task(task)
        for split in study.runs.splits
        for task in suite.splits[split]
    }
    for i, place in enumerate(tasks):
        score = scores.get(("train", varied[place] or ""))
        if place in scores and score is not None:
            axes.plot(score, i + offset, ls="", marker="|", ms=9, color=study.styles[method].colour)


def _legend_with_training(figure: Figure, study: Study, methods: list[str]) -> None:
    marks = [
        Line2D([], [], ls="", marker="o", mfc=face, mec=INK, ms=5.5, label=label)
        for face, label in ((INK, "training task"), ("white", "held-out task"))
    ]
    method_legend(figure, study, methods, marks)


def _mean_scores(study: Study, method: str) -> dict[Place, float]:
    means = (
        study.table[study.table["method"] == method]
        .groupby(["split", "task"], as_index=False)["score"]
        .mean()
    )
    return dict(zip(zip(means["split"], means["task"], strict=True), means["score"], strict=True))


def _split_marks(space: ParameterSpace) -> dict[str, str]:
    return dict(zip(_splits(space), SPLIT_MARKERS * 3, strict=False))


def _splits(space: ParameterSpace) -> list[str]:
    return list(dict.fromkeys(split for split, _ in space.values))


def _evaluated_methods(study: Study, space: ParameterSpace, among: list[str]) -> list[str]:
    evaluated = {method for split in _splits(space) for method in study.methods_on(split)}
    return [method for method in among if method in evaluated]


DRAWERS = {1: _scalar_figures, 2: _plane_figures}
