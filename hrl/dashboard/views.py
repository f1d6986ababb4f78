"""Build the parts of the page from what was read."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import Patch, dcc, html

from hrl.dashboard import figures
from hrl.dashboard.run_status import RunStatus
from hrl.dashboard.tables import count_of_alerts, duration, grid, task_returns
from hrl.dashboard.watcher import Snapshot, latest_videos

STATE_COLOURS = {
    "finished": "#009E73",
    "running": "#0072B2",
    "waiting": "#B9BDC4",
    "stopped": "#E69F00",
    "stalled": "#D55E00",
    "failed": "#B00020",
}
SMOOTHING = [{"label": "nothing", "value": 1}] + [
    {"label": f"{count} points", "value": count} for count in (5, 20, 50)
]
FIRST_METRIC = "train/return"
VIDEOS_PER_RUN = 2
MOST_VIDEOS = 24
MOST_HEATMAPS = 6
GRAPH_STYLE = {"height": "320px"}


def layout(title: str, refresh: float) -> Any:
    """Return the page: head, tabs, and what they hold before anything was read."""
    return html.Div(
        [
            html.H1(title),
            html.P(
                [html.Span(id="headline"), " ", html.Strong(id="alert-count")], className="head"
            ),
            html.Label(["suite ", dcc.Dropdown(id="suite", clearable=False)], className="suite"),
            dcc.Interval(id="tick", interval=round(1000 * refresh)),
            dcc.Tabs(
                id="tabs",
                value="grid",
                children=[
                    dcc.Tab(html.Div(id="grid"), label="Runs", value="grid"),
                    dcc.Tab(_curves_tab(), label="Learning curves", value="curves"),
                    dcc.Tab(_tasks_tab(), label="Tasks", value="tasks"),
                    dcc.Tab(_hierarchy_tab(), label="Hierarchy", value="hierarchy"),
                    dcc.Tab(
                        [html.Div(id="videos"), dcc.Store(id="videos-shown")],
                        label="Videos",
                        value="videos",
                    ),
                    dcc.Tab(html.Div(id="alerts"), label="Alerts", value="alerts"),
                ],
            ),
        ],
        className="page",
    )


def grid_view(snapshot: Snapshot) -> Any:
    """Return a table a suite and kind of run: methods in rows, seeds in columns."""
    rows = grid(snapshot.runs)
    parts: list[Any] = []
    for suite, kind in dict.fromkeys((suite, kind) for suite, kind, _ in rows):
        members = {
            method: by_seed
            for (of_suite, of_kind, method), by_seed in rows.items()
            if (of_suite, of_kind) == (suite, kind)
        }
        seeds = sorted({seed for by_seed in members.values() for seed in by_seed})
        head = html.Tr([html.Th("method"), *(html.Th(f"seed {seed}") for seed in seeds)])
        body = [
            html.Tr([html.Th(method), *(_cell(by_seed.get(seed)) for seed in seeds)])
            for method, by_seed in members.items()
        ]
        title = suite if kind == "train" else f"{suite}, fine-tuned"
        table = html.Table([html.Thead(head), html.Tbody(body)])
        parts += [html.H2(title), html.Div(table, className="table")]
    read = f"{len(snapshot.runs)} runs were read in {1000 * snapshot.read_seconds:.0f} ms."
    return [*parts, html.P(read, className="quiet")]


def alerts_view(snapshot: Snapshot) -> Any:
    """Return the alerts, errors first."""
    found = [(run, alert) for run in snapshot.runs for alert in run.alerts]
    if not found:
        return html.P("Nothing has to be looked at.")
    found.sort(key=lambda pair: pair[1].level != "error")
    head = html.Tr([html.Th("run"), html.Th("alert"), html.Th("what was seen"), html.Th("folder")])
    body = [
        html.Tr(
            [
                html.Td(run.label),
                html.Td(alert.name),
                html.Td(alert.message),
                html.Td(html.Code(str(run.folder))),
            ],
            className=alert.level,
        )
        for run, alert in found
    ]
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="table")


def latest_returns(runs: Sequence[figures.Pair]) -> dict[str, dict[str, float]]:
    """Return task -> method -> latest training return, mean over runs."""
    latest = [
        (
            status,
            {name: followed.metrics.last(name) for name in followed.metrics.names()},
        )
        for status, followed in runs
    ]
    return task_returns(latest)


def task_table(returns: Mapping[str, Mapping[str, float]]) -> Any:
    """Return the latest training return: a row a task, a column a method."""
    if not returns:
        return html.P("No run has logged a return yet.")
    methods = sorted({method for by_method in returns.values() for method in by_method})
    head = html.Tr([html.Th("task"), *(html.Th(method) for method in methods)])
    body = [
        html.Tr([html.Th(task), *(html.Td(_number(by_method.get(name))) for name in methods)])
        for task, by_method in returns.items()
    ]
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="table")


def hierarchy_view(
    runs: Sequence[figures.Pair], shuffles: Mapping[str, Mapping[str, Sequence[float]]]
) -> Any:
    """Return skill usage by task, and the shuffle tests."""
    usage = [
        _graph(figure)
        for status, followed in runs
        if followed.metrics.records
        and (figure := figures.skill_usage_figure(followed.metrics.records[-1], status.label))
    ]
    bars = figures.shuffles_figure(shuffles)
    parts: list[Any] = []
    if bars is not None:
        parts += [html.H2("Return when actions or tasks are shuffled"), _graph(bars)]
    if usage:
        shown = html.Div(usage[:MOST_HEATMAPS], className="panels")
        parts += [html.H2("Skill usage in the last line of the log"), shown]
    return parts


def renewed(
    figure: figures.Figure, choice: str, shown: Sequence[str] | None
) -> tuple[figures.Figure | Patch, list[str]]:
    """Return the change that makes a graph show a figure, and what the graph shows then.

    For another choice that is the whole figure. For the same choice it is new data alone, line by
    line, so that the user's zoom stays and hidden lines stay hidden. Plotly's own setting for this,
    `uirevision`, fails here: after a zoom Dash 4.4.1 hands the figure to Plotly again with the
    zoomed range in it, and the next figure, which has no range, then resets it.

    Args:
        figure: what is to be shown; each of its traces has a `uid`.
        choice: what the user has chosen to see.
        shown: what the graph shows, from the last call; None at first.
    """
    traces = {trace["uid"]: trace for trace in figure["data"]}
    if not shown or shown[0] != choice or not traces.keys() >= set(shown[1:]):
        return figure, [choice, *traces]
    patch = Patch()
    for index, uid in enumerate(shown[1:]):
        patch["data"][index].update(traces.pop(uid))
    patch["data"].extend(list(traces.values()))
    return patch, [*shown, *traces]


def diagnostic_views(
    runs: Sequence[figures.Pair], suite: str, shown: Mapping[str, Sequence[str]]
) -> tuple[list[Any], dict[str, list[str]]]:
    """Return a figure and a style for each of DIAGNOSTICS, and what each graph shows then.

    The style hides metrics that no run logs.

    Args:
        runs: all runs of the suite.
        suite: the suite's name.
        shown: what each graph shows, from the last call.
    """
    parts: list[Any] = []
    now: dict[str, list[str]] = {}
    for key, figure in zip(figures.DIAGNOSTICS, figures.diagnostic_figures(runs), strict=True):
        if figure is None:
            parts += [{}, {"display": "none"}]
        else:
            change, now[key] = renewed(figure, suite, shown.get(key))
            parts += [change, GRAPH_STYLE]
    return parts, now


def video_list(snapshot: Snapshot, suite: str) -> list[str]:
    """Return the addresses and titles of the latest videos of the suite's runs, in turn."""
    return [
        part
        for index, run in enumerate(snapshot.runs)
        if run.suite == suite
        for path in latest_videos(run, VIDEOS_PER_RUN)
        for part in (f"video/{index}/{path.name}", f"{run.method} seed {run.seed}: {path.stem}")
    ]


def videos_view(videos: Sequence[str]) -> Any:
    """Return the videos of a `video_list`."""
    if not videos:
        return html.P("No run of this suite has recorded a video yet.")
    found = list(zip(videos[::2], videos[1::2], strict=True))
    shown = [
        html.Figure(
            [
                html.Video(src=address, controls=True, loop=True, muted=True),
                html.Figcaption(title),
            ]
        )
        for address, title in found[:MOST_VIDEOS]
    ]
    left = len(found) - len(shown)
    note = [html.P(f"{left} more are in the runs' folders.", className="quiet")] if left else []
    return [html.Div(shown, className="videos"), *note]


# Private functions.


def _curves_tab() -> Any:
    metric = dcc.Dropdown([FIRST_METRIC], FIRST_METRIC, id="metric", clearable=False)
    axes = dcc.RadioItems(["frames", "hours"], "frames", id="axis", inline=True)
    smoothing = dcc.RadioItems(SMOOTHING, 5, id="smoothing", inline=True)
    return html.Div(
        [
            html.Div(
                [
                    html.Label(["metric ", metric], className="wide"),
                    html.Label(["against ", axes]),
                    html.Label(["smoothed over ", smoothing]),
                ],
                className="controls",
            ),
            dcc.Graph(id="curves", style={"height": "560px"}),
            dcc.Store(id="curves-shown"),
            html.P(
                "Thick: mean over seeds, in the range that all reach; bands: 95 % bootstrap "
                "interval over seeds; thin: single runs. Drag to zoom, double-click to reset.",
                className="quiet",
            ),
        ]
    )


def _tasks_tab() -> Any:
    return html.Div(
        [
            html.H2("Latest training return"),
            html.Div(id="task-table"),
            html.Label(["task ", dcc.Dropdown(id="task", clearable=False)], className="suite"),
            dcc.Graph(id="task-curves", style={"height": "420px"}),
            dcc.Store(id="task-curves-shown"),
        ]
    )


def _hierarchy_tab() -> Any:
    # These graphs stay where they are, so that they keep their zoom.
    graphs = [
        dcc.Graph(id=f"diagnostic-{key}", style={"display": "none"}) for key in figures.DIAGNOSTICS
    ]
    return html.Div(
        [
            html.Div(id="hierarchy"),
            html.H2("While learning"),
            html.Div(graphs, className="panels"),
            dcc.Store(id="diagnostics-shown"),
        ]
    )


def _cell(run: RunStatus | None) -> Any:
    if run is None:
        return html.Td()
    colour = STATE_COLOURS[run.state]
    bar = html.Div(style={"width": f"{100 * run.share:.0f}%", "background": colour})
    left = f", {duration(run.seconds_left)} left" if run.state == "running" else ""
    evaluated = ", evaluated" if run.evaluated else ""
    alerts = [html.Strong(f" {count_of_alerts(len(run.alerts))}")] if run.alerts else []
    text = f"{run.state}{evaluated} {100 * run.share:.0f} %{left}"
    return html.Td(
        [html.Div(bar, className="bar"), html.Span(text), *alerts], title=str(run.folder)
    )


def _graph(figure: figures.Figure) -> Any:
    return dcc.Graph(figure=figure, style=GRAPH_STYLE)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
