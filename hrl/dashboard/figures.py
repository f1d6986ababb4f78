"""Draw what runs logged, as Plotly figures in plain dictionaries."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hrl.dashboard.curves import Axis, Band, band, curve, smoothed, usage_matrix
from hrl.dashboard.run_status import FollowedRun, RunStatus
from hrl.reporting.study import COLOURS

Figure: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[RunStatus, FollowedRun]

GOAL_METRICS = {
    "goal/max_cosine_first": "max_cosine to the goal at a segment's start",
    "goal/max_cosine_last": "max_cosine to the goal at a segment's end",
    "goal/distance_over_displacement": "distance of goals over displacement in a segment",
    "goal/swap_divergence": "nats by which another state's goal changes the worker",
    "manager/codes_perplexity": "classes of a code in use",
    "goal_autoencoder/drift": "drift of the goals of fixed codes",
}
SKILL_METRICS = {
    "skills/weight_entropy": "entropy of the manager's weights",
    "skills/imbalance": "imbalance of the skills' load",
}
EXPLAINED = {
    "value/explained_variance": "explained variance of the critic",
    "manager/explained_variance": "explained variance of the manager's critic",
}
DIAGNOSTICS = {**GOAL_METRICS, **SKILL_METRICS, **EXPLAINED}
AXIS_TITLES = {"frames": "training frames (control steps)", "hours": "hours of training"}


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour for each method, in alphabetical order."""
    ordered = sorted(set(methods))
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(ordered)}


def curves_figure(
    runs: Sequence[Pair], key: str, axis: Axis, window: int, title: str = ""
) -> Figure:
    """Return the curves of a metric: a line and a band a method, thin lines for its runs.

    Args:
        runs: of one suite.
        key: of the metric.
        axis: what stands on x.
        window: points that are smoothed over.
        title: of the figure; by default y has the metric's name.
    """
    by_method: dict[str, list[Pair]] = {}
    for pair in runs:
        by_method.setdefault(pair[0].method, []).append(pair)
    palette = colours(by_method)
    traces = [
        {**trace, "legendrank": rank}  # lines that come later are appended; see `views.renewed`
        for rank, (method, members) in enumerate(sorted(by_method.items()))
        for trace in _method_traces(method, members, key, axis, window, palette[method])
    ]
    return _figure(traces, AXIS_TITLES[axis], "" if title else key, title)


def skill_usage_figure(record: Mapping[str, float], title: str) -> Figure | None:
    """Return the heatmap of a run's latest use of skills by task; None without skills."""
    weights, skills, tasks = usage_matrix(record)
    if not weights.size:
        return None
    heatmap = {
        "type": "heatmap",
        "z": _plain(weights),
        "x": tasks,
        "y": skills,
        "zmin": 0,
        "zmax": float(np.nanmax(weights)),
        "colorscale": [[0, "#f7fbff"], [1, "#08519c"]],
        "colorbar": {"title": {"text": "mean weight"}},
    }
    figure = _figure([heatmap], "task", "skill", title)
    figure["layout"]["yaxis"]["type"] = "category"
    return figure


def shuffles_figure(returns: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure | None:
    """Return bars of the return under each intervention; None without any.

    Args:
        returns: method -> intervention -> mean return of each run.
    """
    if not returns:
        return None
    names = list(dict.fromkeys(name for by_name in returns.values() for name in by_name))
    bars = [
        {
            "type": "bar",
            "name": name.replace("_", " "),
            "x": [method for method in returns if name in returns[method]],
            "y": [float(np.mean(by[name])) for by in returns.values() if name in by],
        }
        for name in names
    ]
    return _figure(bars, "", "return")


def diagnostic_figures(runs: Sequence[Pair]) -> list[Figure | None]:
    """Return the curves of each of DIAGNOSTICS; None for those that no run logs."""
    names = {name for _, followed in runs for name in followed.metrics.names()}
    return [
        curves_figure(runs, key, "frames", 5, title) if key in names else None
        for key, title in DIAGNOSTICS.items()
    ]


# Private functions.


def _method_traces(
    method: str, members: Sequence[Pair], key: str, axis: Axis, window: int, colour: str
) -> list[dict[str, Any]]:
    """Return an interval, the runs and their mean: as many traces whatever the number of runs."""
    curves = [(status, curve(followed, key, axis)) for status, followed in members]
    curves = [(status, (x, y)) for status, (x, y) in curves if len(x)]
    over_seeds = band([points for _, points in curves], window, method)
    if over_seeds is None:
        return []
    runs = [(x, smoothed(y, window), f"{method} seed {status.seed}") for status, (x, y) in curves]
    mean = _line([(over_seeds.x, over_seeds.mean, method)], colour, 2.4)
    mean["name"] = f"{method} ({over_seeds.seeds})"
    quiet = {"opacity": 0.4, "showlegend": False}
    parts = {
        "interval": _interval(over_seeds, colour),
        "runs": _line(runs, colour, 0.8) | quiet,
        "mean": mean,
    }
    return [
        {**trace, "uid": f"{method} {part}", "legendgroup": method} for part, trace in parts.items()
    ]


def _interval(over_seeds: Band, colour: str) -> dict[str, Any]:
    known = np.isfinite(over_seeds.low).any()
    x = [*over_seeds.x.tolist(), *over_seeds.x[::-1].tolist()] if known else []
    y = [*over_seeds.high.tolist(), *over_seeds.low[::-1].tolist()] if known else []
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "fill": "toself",
        "fillcolor": f"{colour}30",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _line(
    parts: Sequence[tuple[NDArray, NDArray, str]], colour: str, width: float
) -> dict[str, Any]:
    """Return one trace of several curves (x, y, label), with gaps between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    labels: list[str | None] = []
    for own_x, own_y, label in parts:
        gap = [None] if x else []
        x += [*gap, *own_x.tolist()]
        y += [*gap, *own_y.tolist()]
        labels += [*gap, *[label] * len(own_x)]
    # A point between gaps is no line: it is drawn as a marker, and points of lines as none.
    sizes = [6 if len(own_x) == 1 else 0 for own_x, _, _ in parts for _ in (None, *own_x)][1:]
    return {
        "type": "scatter",
        "mode": "lines+markers" if any(sizes) else "lines",
        "x": x,
        "y": y,
        "hovertext": labels,
        "hoverinfo": "x+y+text",
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": sizes if any(sizes) else 0},
    }


def _figure(traces: list[dict[str, Any]], x_title: str, y_title: str, title: str = "") -> Figure:
    return {
        "data": traces,
        "layout": {
            "title": {"text": title, "font": {"size": 14}},
            "xaxis": {"title": {"text": x_title}, "gridcolor": "#EEF0F3", "automargin": True},
            "yaxis": {"title": {"text": y_title}, "gridcolor": "#EEF0F3", "automargin": True},
            "plot_bgcolor": "white",
            "margin": {"l": 60, "r": 20, "t": 70 if title else 30, "b": 50},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0},
        },
    }


def _plain(values: NDArray) -> list[list[float | None]]:
    return [[None if math.isnan(one) else one for one in row] for row in values.tolist()]
