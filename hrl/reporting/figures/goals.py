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
TITLES = ("max_cosine to the goal", "distance over displacement", "nats when swapped")
CAPTION = (
    "In imagination, during training; one line a run, smoothed over neighbouring points. x: "
    "training frames (control steps). Left: max_cosine of the state to the present goal (1: there) "
    "at the start of a segment (dotted) and at its end; if the worker reaches its goals, the two "
    "lines are apart; if goals are reached before the segment starts, both are near 1. Middle: "
    "distance of the goals, in units of how far the state moves in a segment; dashed: just in "
    "reach. Right: divergence of the worker's policy from the same policy with another state's "
    "goal; 0 is a worker that ignores its goal."
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
    for method in methods:
        for run in study.runs.of(method):
            colour = study.styles[method].colour
            _curve(axes[0], run, FIRST, colour, ":")
            _curve(axes[0], run, LAST, colour, "-")
            _curve(axes[1], run, REACH, colour, "-")
            _curve(axes[2], run, SWAP, colour, "-")
    for axis, title in zip(axes, TITLES, strict=True):
        axis.set_title(title)
        frames_axis(axis)
    _distance_axis(axes[1])
    lines = [
        Line2D([], [], color=INK, ls=line, label=f"segment's {name}")
        for line, name in ((":", "start"), ("-", "end"))
    ]
    method_legend(figure, study, methods, lines)
    title = "Goals: how far, how nearly reached, how much they matter"
    return [ReportFigure("goals", title, CAPTION, figure, note_on(study, methods))]


def _distance_axis(axes: Axes) -> None:
    axes.axhline(1, color=FAINT, lw=0.9, ls=(0, (2, 2)))
    axes.set_yscale("log")
    # The default formatter writes powers of ten as mathematics.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, run: Run, key: str, colour: str, line: str) -> None:
    if key not in run.metrics:
        return
    logged = run.metrics[["frames", key]].dropna()
    window = max(1, len(logged) // _SMOOTHED)
    smooth = logged.rolling(window, min_periods=1).mean()
    axes.plot(logged["frames"], smooth[key], color=colour, ls=line, lw=1.1)
