"""Tests of the page's server: what it answers, to whom, and what its callbacks return."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from hrl.cli import main
from hrl.dashboard import watcher
from hrl.dashboard.access import COOKIE, Access
from tests.hrl.dashboard.logs import let_pass, log_steadily, start_run, write_study

pytest.importorskip("dash", reason="the extra dashboard is missing")

from dash import Patch

from hrl.dashboard.app import make_app, serve
from hrl.dashboard.figures import DIAGNOSTICS
from hrl.dashboard.tables import shuffle_returns
from hrl.dashboard.views import renewed
from hrl.dashboard.watcher import Watcher

METRICS = {"train/return": 3.0, "train/return/near": 2.0, "train/return/far": 4.0}
USAGE = {"skills/usage/near/0": 0.25, "skills/usage/near/1": 0.75, "skills/imbalance": 0.5}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(watcher, "FRESH", 0.0)
    folder = tmp_path / "quick"
    places = [f"points/{method}/seed_{seed}" for method in ("ppo", "skills") for seed in (1, 2)]
    write_study(folder, 1000, *places)
    for place in places[:3]:
        _, method, seed = place.split("/")
        run = start_run(folder / place, method=method, seed=int(seed[-1]))
        log_steadily(run, 30, **METRICS, **(USAGE if method == "skills" else {}))
    let_pass(folder / places[1], 3600)
    (folder / places[0] / "videos").mkdir()
    (folder / places[0] / "videos" / "000000100_near.mp4").write_bytes(b"film")
    return folder


def client(study: Path, access: Access | None = None) -> Any:
    return make_app([study], access or Access()).server.test_client()


def called(browser: Any, output: str, inputs: dict[str, Any], state: Any = None) -> Any:
    """Call the callback with an output, as the page does."""
    outputs = output.strip(".").split("...")
    named = [dict(zip(("id", "property"), one.split("."), strict=True)) for one in outputs]

    def listed(values: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {**dict(zip(("id", "property"), key.split("."), strict=True)), "value": value}
            for key, value in values.items()
        ]

    answer = browser.post(
        "/_dash-update-component",
        json={
            "output": output,
            "outputs": named if len(named) > 1 else named[0],
            "inputs": listed(inputs),
            "state": listed(state or {}),
            "changedPropIds": ["tick.n_intervals"],
        },
    )
    assert answer.status_code in (200, 204), answer.text
    return answer.get_json()["response"] if answer.status_code == 200 else None


def tick(tab: str, **others: Any) -> dict[str, Any]:
    return {"tick.n_intervals": 1, "tabs.value": tab, **others}


def test_the_page_and_all_that_it_needs_come_from_here(study: Path) -> None:
    browser = client(study)
    page = browser.get("/")
    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://dash.plotly.com", "")
    assert "dashboard.css" in page.text


def test_the_head_counts_runs_and_alerts(study: Path) -> None:
    output = "..headline.children...alert-count.children...suite.options...suite.value.."
    found = called(client(study), output, {"tick.n_intervals": 0}, {"suite.value": None})
    assert found["headline"]["children"].startswith("4 runs: 2 running, 1 waiting, 1 stopped; 22 %")
    assert found["alert-count"]["children"] == "1 alert"
    assert (found["suite"]["options"], found["suite"]["value"]) == (["points"], "points")


def test_the_grid_has_a_cell_a_run_and_other_tabs_are_left_alone(study: Path) -> None:
    browser = client(study)
    found = json.dumps(called(browser, "grid.children", tick("grid")))
    assert found.count('"bar"') == 4
    assert "running 30 %, 2 min left" in found
    assert "waiting 0 %" in found
    assert called(browser, "grid.children", tick("videos")) == {}


def test_curves_tasks_hierarchy_and_alerts(study: Path) -> None:
    browser = client(study)
    suite = {"suite.value": "points"}
    found = called(
        browser,
        "..metric.options...curves.figure...curves-shown.data..",
        tick("curves", **suite, **{"metric.value": "train/return", "axis.value": "hours"})
        | {"smoothing.value": 5},
        {"curves-shown.data": None},
    )
    assert "skills/imbalance" in found["metric"]["options"]
    lines = {trace["uid"]: trace for trace in found["curves"]["figure"]["data"]}
    assert lines["ppo mean"]["name"] == "ppo (2)"
    assert lines["skills mean"]["name"] == "skills (1)"
    assert set(lines["ppo runs"]["hovertext"]) == {"ppo seed 1", None, "ppo seed 2"}
    assert lines["ppo runs"]["x"].count(None) == 1, "a gap between two runs"
    assert lines["ppo mean"]["legendrank"] < lines["skills mean"]["legendrank"]
    found = called(
        browser,
        "..task.options...task-table.children...task-curves.figure...task-curves-shown.data..",
        tick("tasks", **suite, **{"task.value": None}),
        {"task-curves-shown.data": None},
    )
    assert found["task"]["options"] == ["far", "near"]
    assert found["task-curves"]["figure"]["data"][-1]["y"] == [4.0] * 30
    graphs = [f"diagnostic-{key}.{name}" for key in DIAGNOSTICS for name in ("figure", "style")]
    output = f"..{'...'.join(['hierarchy.children', 'diagnostics-shown.data', *graphs])}.."
    found = called(browser, output, tick("hierarchy", **suite), {"diagnostics-shown.data": None})
    assert "heatmap" in json.dumps(found["hierarchy"]["children"])
    shown = {key for key in DIAGNOSTICS if "height" in found[f"diagnostic-{key}"]["style"]}
    assert shown == set(found["diagnostics-shown"]["data"]) == {"skills/imbalance"}
    alerts = json.dumps(called(browser, "alerts.children", tick("alerts")))
    assert "no process writes it, at 300 frames" in alerts
    assert str(study / "points/ppo/seed_2") in alerts


def test_a_graph_is_drawn_anew_only_for_another_choice() -> None:
    def drawn(*lines: tuple[str, float]) -> dict[str, Any]:
        data = [{"uid": name, "y": [value]} for name, value in lines]
        return {"data": data, "layout": {}}

    def changes(patch: Any) -> list[tuple[str, list[str | int], Any]]:
        assert isinstance(patch, Patch)
        return [
            (part["operation"], part["location"], part["params"]["value"])
            for part in patch.to_plotly_json()["operations"]
        ]

    first, shown = renewed(drawn(("b", 1.0)), "loss", None)
    assert first == drawn(("b", 1.0))
    grown, again = renewed(drawn(("b", 2.0)), "loss", shown)
    assert again == shown
    renewal = ("Merge", ["data", 0], {"uid": "b", "y": [2.0]})
    assert changes(grown)[0] == renewal
    two, shown = renewed(drawn(("a", 1.0), ("b", 2.0)), "loss", shown)
    assert changes(two) == [renewal, ("Extend", ["data"], [{"uid": "a", "y": [1.0]}])]
    assert shown == ["loss", "b", "a"]
    fewer, less = renewed(drawn(("a", 1.0)), "loss", shown)
    assert (fewer, less) == (drawn(("a", 1.0)), ["loss", "a"])
    other, shown = renewed(drawn(("a", 2.0), ("b", 1.0)), "return", shown)
    assert other == drawn(("a", 2.0), ("b", 1.0))
    assert shown == ["return", "a", "b"]


def test_scores_that_cannot_be_read_are_left_out(study: Path) -> None:
    (study / "points/skills/seed_1/shuffled_scores.csv").mkdir()
    assert shuffle_returns(Watcher([study]).snapshot().runs) == {}


def test_videos_are_sent_and_no_other_file(study: Path) -> None:
    browser = client(study)
    output = "..videos.children...videos-shown.data.."
    inputs = tick("videos", **{"suite.value": "points"})
    found = called(browser, output, inputs, {"videos-shown.data": None})
    assert "video/0/000000100_near.mp4" in json.dumps(found["videos"])
    shown = found["videos-shown"]["data"]
    assert called(browser, output, inputs, {"videos-shown.data": shown}) == {}, "they play on"
    assert browser.get("/video/0/000000100_near.mp4").data == b"film"
    for path in ("0/config.yaml", "99/a.mp4", "0/absent.mp4"):
        assert browser.get(f"/video/{path}").status_code == 404, path
    # An address that leads out of the folder is no video's: the page itself is answered.
    for path in ("0/..%2Fconfig.yaml", "0/..%2f..%2fstudy.json"):
        assert "react-entry-point" in browser.get(f"/video/{path}").text


def test_without_the_token_nothing_is_answered(study: Path) -> None:
    browser = client(study, Access("0.0.0.0", "secret"))
    for path in ("/", "/_dash-layout", "/video/0/000000100_near.mp4", "/assets/dashboard.css"):
        assert browser.get(path).status_code == 401
    assert browser.post("/_dash-update-component", json={}).status_code == 401
    assert browser.get("/?token=wrong").status_code == 401
    assert browser.get("/?token=secret").status_code == 302
    cookie = browser.get_cookie(COOKIE)
    assert (cookie.value, cookie.http_only, cookie.same_site) == ("secret", True, "Strict")
    assert browser.get("/").status_code == 200


def test_a_name_that_is_not_this_machine_s_is_refused(study: Path) -> None:
    assert client(study).get("/", headers={"Host": "evil.example"}).status_code == 401


def test_a_port_that_is_taken_is_named(study: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1:{port}: .*in use"):
            serve(make_app([study], Access()), Access(), port)


def test_the_command_refuses_what_it_cannot_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "nowhere"]) == 2
    assert "nowhere: no run folder and no study there" in capsys.readouterr().err
    assert main(["dashboard", "nowhere", "--port=80"]) == 2
    assert "it must be at least 1024" in capsys.readouterr().err
