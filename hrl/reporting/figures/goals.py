"""Show of hierarchies with goals how far goals are, and whether the worker reaches them."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from hrl.reporting.figures.style import FAINT, INK, ReportFigure, frames_axis, method_legend, panels
from hrl.reporting.runs import Run
from hrl.reporting.study import Study, note_on

FIRST, LAST, REACH, SWAP = (
    f"goal/{name}"
    for name in (
        "max_cosine_first",
        "max_cosine_last",
        "distance_over_displacement",
        "swap_divergence",
    )
)
_SMOOTHED = 60  # points of a curve


def goal_figures(study: Study) -> list[ReportFigure]:
    """Draw one figure for all methods that logged goals; nothing where none did."""
    methods = [
        method
        for method in study.runs.trained_methods
        if any(LAST in run.metrics for run in study.runs.of(method))
    ]
    if not methods:
        return []
    figure, axes = panels(3, 3, 2.7)
    drawn = (
        (axes[0], FIRST, ":"),
        (axes[0], LAST, "-"),
        (axes[1], REACH, "-"),
        (axes[2], SWAP, "-"),
    )
    for method in methods:
        for run in study.runs.of(method):
            for axis, key, line in drawn:
                _curve(axis, run, key, study.looks[method].colour, line)
    for axis, title in zip(
        axes,
        ("max_cosine to the goal", "distance over displacement", "nats when swapped"),
        strict=True,
    ):
        axis.set_title(title)
        frames_axis(axis)
    axes[1].axhline(1, color=FAINT, lw=0.9, ls=(0, (2, 2)))
    axes[1].set_yscale("log")
    # The default formatter writes powers of ten as mathematics.
    axes[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].yaxis.set_minor_formatter(NullFormatter())
    lines = [
        Line2D([], [], color=INK, ls=line, label=f"segment's {name}")
        for line, name in ((":", "start"), ("-", "end"))
    ]
    method_legend(figure, study, methods, lines)
    caption = (
        "In imagination, while training; one line a run, smoothed over neighbouring points. x: "
        "training frames (control steps). Left: max_cosine of the state to the goal in force (1: "
        "there) at the start of a segment (dotted) and at its end; a worker that reaches its "
        "goals parts the two, goals that are reached before it starts bring both to 1. Middle: "
        "how far goals are, in units of how far the state moves in a segment; dashed: just in "
        "reach. Right: divergence of the worker's policy from itself with another state's goal; 0 "
        "is a worker that ignores its goal."
    )
    return [
        ReportFigure(
            "goals",
            "Goals: how far, how nearly reached, how much they matter",
            caption,
            figure,
            note_on(study, methods),
        )
    ]


def _curve(axes: Axes, run: Run, key: str, colour: str, line: str) -> None:
    if key not in run.metrics:
        return
    logged = run.metrics[["frames", key]].dropna()
    window = max(1, len(logged) // _SMOOTHED)
    smooth = logged.rolling(window, min_periods=1).mean()
    axes.plot(logged["frames"], smooth[key], color=colour, ls=line, lw=1.1)
