"""Tests of the signs of collapse: each is seen where it is, late enough, and nowhere else."""

from pathlib import Path

import pytest

from hrl.dashboard.alerts import LINES, SIGNS
from hrl.dashboard.run_status import FollowedRun
from tests.hrl.dashboard.logs import log_steadily, start_run

HEALTHY = {
    "value/explained_variance": 0.95,
    "manager/explained_variance": 0.8,
    "policy/kl": 0.02,
    "manager/kl": 0.1,
    "goal/max_cosine_first": 0.11,
    "goal/max_cosine_last": 0.16,
    "goal/swap_divergence": 11.6,
    "goal/distance_over_displacement": 2.9,
    "manager/codes_perplexity": 5.0,
    "manager/codes_distinct": 0.9,
    "goal_autoencoder/drift": 0.05,
    "manager/exploration/return_spread": 0.2,
    "manager/exploration/advantage": 0.4,
    "manager/task/advantage": 0.3,
    "manager/task/return_spread": 1.0,
    "manager/task/value_most": 90.0,
    "manager/task/value_least": -3.0,
    "worker/saturated": 0.1,
    "skills/load/0": 0.3,
    "skills/load/1": 0.7,
    "env/worker_deaths": 0.0,
}


def seen(folder: Path, lines: int = 30, frames: int = 400, **changes: float) -> set[str]:
    run = start_run(folder / "run", frames=frames)
    log_steadily(run, lines, **{**HEALTHY, **changes})
    return {alert.name for alert in FollowedRun(run).status(set()).alerts}


def test_a_healthy_run_has_no_alert(tmp_path: Path) -> None:
    assert seen(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("critic does not learn", {"value/explained_variance": 0.02}),
        ("manager's critic does not learn", {"manager/explained_variance": -0.5}),
        ("steps too large", {"policy/kl": 0.4}),
        ("manager's steps too large", {"manager/kl": 0.9}),
        ("worker does not come nearer to goals", {"goal/max_cosine_last": 0.112}),
        ("trivial goals", {"goal/max_cosine_first": 0.97, "goal/max_cosine_last": 0.98}),
        ("worker ignores goals", {"goal/swap_divergence": 0.001}),
        ("goals collapse", {"manager/codes_perplexity": 1.1}),
        ("goals all alike", {"manager/codes_distinct": 0.01}),
        ("goals out of reach", {"goal/distance_over_displacement": 30.0}),
        ("goals drift", {"goal_autoencoder/drift": 0.9}),
        ("bonus dies", {"manager/exploration/return_spread": 1e-6}),
        ("bonus drowns the task", {"manager/task/advantage": 0.001}),
        ("actions saturate", {"worker/saturated": 0.97}),
        ("actions saturate", {"policy/saturated": 0.97}),
        ("values run away", {"manager/task/value_most": 500.0}),
        ("values run away", {"manager/task/value_least": -210.0}),
        ("skills collapse", {"skills/load/0": 0.01}),
        ("workers die", {"env/worker_deaths": 2.0}),
    ],
)
def test_each_sign_is_seen_alone(name: str, changes: dict[str, float], tmp_path: Path) -> None:
    assert seen(tmp_path, **changes) == {name}


def test_every_sign_is_tested() -> None:
    mark = next(iter(test_each_sign_is_seen_alone.pytestmark))
    assert {sign.name for sign in SIGNS} <= {name for name, _ in mark.args[1]}


def test_nothing_counts_before_a_run_has_warmed_up(tmp_path: Path) -> None:
    bad = {"value/explained_variance": 0.0}
    assert seen(tmp_path / "few", lines=LINES - 1, **bad) == set()
    assert seen(tmp_path / "early", lines=30, frames=4000, **bad) == set()
    assert seen(tmp_path / "late", lines=30, frames=2000, **bad) == {"critic does not learn"}


def test_a_single_bad_line_is_no_sign(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    log_steadily(run, 30, **HEALTHY)
    log_steadily(run, 1, **{**HEALTHY, "goal/swap_divergence": 0.0})
    assert FollowedRun(run).status(set()).alerts == ()
