"""Draw what all figures share: fonts, panels, the legend of the methods, reference lines, bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from hrl.reporting.statistics import Array
from hrl.reporting.study import Study

INK = "#1F2933"
FAINT = "#9AA3AE"
SHADE = "#E8EEF4"
WIDTH = 9.6  # inches; the page shows a figure about 940 px wide, so 9 pt reads as 12 px
RC_PARAMS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EEF0F3",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a method's name may have a dollar sign
    "svg.fonttype": "path",
    "svg.hashsalt": "pixel-hrl",
    "pdf.fonttype": 42,  # TrueType: publishers refuse the default, Type 3
}


@dataclass(frozen=True)
class ReportFigure:
    """Hold a drawn figure.

    name: its file stem.  caption: what the axes are and what stands behind the marks.
    """

    name: str
    title: str
    caption: str
    drawing: Figure
    note: str = ""


def panels(
    count: int, columns: int, height: float, *, width: float = WIDTH, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes in even rows of at most `columns`, `height` inches each."""
    rows = -(-count // columns)
    columns = -(-count // rows)
    figure = Figure(figsize=(width, rows * height + 0.35))
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def method_legend(
    figure: Figure, study: Study, methods: Sequence[str], extra: Sequence[Line2D] = ()
) -> None:
    """Draw one legend above the panels: the methods, then whatever else the figure marks."""
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, ls=style.line, ms=5, label=method)
        for method, style in ((method, study.styles[method]) for method in methods)
    ]
    handles += extra
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5))


def score_lines(axes: Axes, axis: str = "y") -> None:
    """Draw lines at random play (0) and the reference return (1), to make a score readable."""
    draw = axes.axhline if axis == "y" else axes.axvline
    for score in (0.0, 1.0):
        draw(score, color=FAINT, lw=0.9, ls=(0, (2, 2)), zorder=1)


def frames_axis(axes: Axes) -> None:
    """Label frames with k and M instead of long rows of zeros."""
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training frames (control steps)")


def band(axes: Axes, x: Array, low: Array, high: Array, colour: str) -> None:
    """Draw an interval along a curve; nothing where one run gives none."""
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
