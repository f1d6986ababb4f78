"""Serve the dashboard: one page of Dash, whose callbacks ask the watcher."""

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flask
from dash import Dash, Input, Output, State, no_update
from werkzeug.serving import make_server

from hrl.dashboard import figures, views
from hrl.dashboard.access import COOKIE, Access
from hrl.dashboard.curves import Axis
from hrl.dashboard.run_status import RunStatus
from hrl.dashboard.tables import count_of_alerts, headline, shuffle_returns, study_title
from hrl.dashboard.watcher import Watcher
from hrl.run.folder import RunFolder

YEAR = 365 * 24 * 3600


def make_app(paths: Sequence[str | Path], access: Access, refresh: float = 5.0) -> Dash:
    """Return the application, to be run or tested.

    Args:
        paths: studies, run folders, globs, or folders that hold runs.
        access: what is asked of every request.
        refresh: seconds between updates of the page.

    Raises:
        FolderError: a path names nothing.
    """
    watcher = Watcher(paths)
    app = Dash(__name__, title="pixel-hrl", update_title=None, serve_locally=True)
    app.layout = views.layout(study_title(list(map(Path, paths))), refresh)
    _guard(app.server, access)
    app.server.add_url_rule("/video/<int:run>/<name>", "video", _video_sender(watcher))
    _Callbacks(watcher).register(app)
    return app


def serve(app: Dash, access: Access, port: int) -> None:
    """Serve until the process is interrupted; requests are not logged.

    Raises:
        OSError: the address cannot be served on; names it.
    """
    try:
        family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        socket.create_server((access.host, port), family=family).close()
    except OSError as error:
        where = f"{access.host}:{port}"
        raise OSError(error.errno, f"cannot serve on {where}: {error.strerror}") from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    make_server(access.host, port, app.server, threaded=True).serve_forever()


class _Callbacks:
    """Fill the page's parts from the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def register(self, app: Dash) -> None:
        """Tell the application which inputs change which parts of the page."""
        tick = Input("tick", "n_intervals")
        tab = Input("tabs", "value")
        suite = Input("suite", "value")
        app.callback(
            Output("headline", "children"),
            Output("alert-count", "children"),
            Output("suite", "options"),
            Output("suite", "value"),
            tick,
            State("suite", "value"),
        )(self.head)
        app.callback(Output("grid", "children"), tick, tab)(self._on("grid", self.grid))
        app.callback(Output("alerts", "children"), tick, tab)(self._on("alerts", self.alerts))
        app.callback(
            Output("metric", "options"),
            Output("curves", "figure"),
            Output("curves-shown", "data"),
            tick,
            tab,
            suite,
            Input("metric", "value"),
            Input("axis", "value"),
            Input("smoothing", "value"),
            State("curves-shown", "data"),
        )(self._on("curves", self.curves, 3))
        app.callback(
            Output("task", "options"),
            Output("task-table", "children"),
            Output("task-curves", "figure"),
            Output("task-curves-shown", "data"),
            tick,
            tab,
            suite,
            Input("task", "value"),
            State("task-curves-shown", "data"),
        )(self._on("tasks", self.tasks, 4))
        graphs = [
            Output(f"diagnostic-{key}", name)
            for key in figures.DIAGNOSTICS
            for name in ("figure", "style")
        ]
        app.callback(
            Output("hierarchy", "children"),
            Output("diagnostics-shown", "data"),
            *graphs,
            tick,
            tab,
            suite,
            State("diagnostics-shown", "data"),
        )(self._on("hierarchy", self.hierarchy, 2 + len(graphs)))
        app.callback(
            Output("videos", "children"),
            Output("videos-shown", "data"),
            tick,
            tab,
            suite,
            State("videos-shown", "data"),
        )(self._on("videos", self.videos, 2))

    def head(self, ticks: int, chosen: str | None) -> tuple[str, str, list[str], str | None]:
        """Return the headline, the number of alerts, and the suites to choose from."""
        del ticks
        snapshot = self._watcher.snapshot()
        suites = list(dict.fromkeys(run.suite for run in snapshot.runs))
        alerts = sum(len(run.alerts) for run in snapshot.runs)
        first = suites[0] if suites else None
        return (
            headline(snapshot),
            count_of_alerts(alerts),
            suites,
            chosen if chosen in suites else first,
        )

    def grid(self) -> Any:
        """Return the grid of runs."""
        return views.grid_view(self._watcher.snapshot())

    def alerts(self) -> Any:
        """Return what has to be looked at."""
        return views.alerts_view(self._watcher.snapshot())

    def curves(
        self, suite: str, metric: str, axis: Axis, window: int, shown: list[str] | None
    ) -> tuple[list[str], Any, list[str]]:
        """Return the metrics to choose from, the curves of one, and what the graph shows then."""
        runs = self._runs(suite)
        names = sorted({name for _, followed in runs for name in followed.metrics.names()})
        options = [name for name in names if name != "frames"]
        figure = figures.curves_figure(runs, metric, axis, window)
        return options or [metric], *views.renewed(figure, f"{suite} {metric} {axis}", shown)

    def tasks(
        self, suite: str, task: str | None, shown: list[str] | None
    ) -> tuple[list[str], Any, Any, list[str]]:
        """Return the tasks, a table of their returns, the curves of one, and what is shown then."""
        runs = self._runs(suite)
        returns = views.latest_returns(runs)
        tasks = list(returns)
        chosen = task if task in tasks else next(iter(tasks), "")
        key = f"train/return/{chosen}"
        title = f"return on {chosen}" if chosen else "return"
        figure = figures.curves_figure(runs, key, "frames", 5, title)
        return tasks, views.task_table(returns), *views.renewed(figure, f"{suite} {key}", shown)

    def hierarchy(self, suite: str, shown: dict[str, list[str]] | None) -> list[Any]:
        """Return heatmaps and bars, what the graphs show then, and a figure and style for each."""
        runs = self._runs(suite)
        returns = shuffle_returns([status for status, _ in runs])
        parts, now = views.diagnostic_views(runs, suite, shown or {})
        return [views.hierarchy_view(runs, returns), now, *parts]

    def videos(self, suite: str, shown: list[str] | None) -> tuple[Any, Any]:
        """Return the latest videos, where they are others than those that are shown."""
        found = views.video_list(self._watcher.snapshot(), suite)
        if found == shown:
            return no_update, no_update
        return views.videos_view(found), found

    # Private methods.

    def _runs(self, suite: str) -> list[figures.Pair]:
        runs = [run for run in self._watcher.snapshot().runs if run.suite == suite]
        return [(run, self._watcher.followed(run)) for run in runs]

    def _on(self, name: str, view: Callable[..., Any], outputs: int = 1) -> Callable[..., Any]:
        """Return a callback that does nothing while another tab is shown."""

        def update(ticks: int, tab: str, *values: Any) -> Any:
            del ticks
            if tab != name:
                return no_update if outputs == 1 else (no_update,) * outputs
            return view(*values)

        return update


def _guard(server: flask.Flask, access: Access) -> None:
    """Refuse requests that do not show what is asked of them; keep a token in a cookie."""

    def check() -> flask.typing.ResponseReturnValue | None:
        request = flask.request
        given = request.args.get("token", "") or request.cookies.get(COOKIE, "")
        if not access.admits(request.host, given):
            return "This page needs the address with the token that its start printed.\n", 401
        if not access.token or "token" not in request.args:
            return None
        response = flask.redirect(request.path)
        response.set_cookie(COOKIE, given, max_age=YEAR, httponly=True, samesite="Strict")
        return response

    server.before_request(check)


def _video_sender(watcher: Watcher) -> Callable[[int, str], flask.Response]:
    """Return what sends a video of a run of the present snapshot, and no other file."""

    def send(run: int, name: str) -> flask.Response:
        runs: tuple[RunStatus, ...] = watcher.snapshot().runs
        if run >= len(runs) or not name.endswith(".mp4"):
            flask.abort(404)
        return flask.send_from_directory(RunFolder(runs[run].folder).videos.resolve(), name)

    return send
