"""Progress is a live bar on a terminal, and a plain line now and then in a log."""

import re
from io import StringIO

import pytest
from rich.console import Console

from envs import load_suite, make_vec
from hrl.run.progress import EpisodeProgress, ProgressDisplay, evaluation_in_words, training_details


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_without_a_terminal_a_plain_line_comes_every_ten_seconds():
    out, clock = StringIO(), Clock()
    console = Console(file=out)
    with ProgressDisplay(1_000_000, "frames", console=console, clock=clock) as display:
        for second in range(25):
            clock.now = float(second)
            display.update(2_000 * second, 2_000.0, "return: walk [fast] 310.3")
    shown = out.getvalue().splitlines()
    assert [line.split("/")[0] for line in shown] == ["0", "20,000", "40,000", "48,000"]
    assert shown[1] == (
        "20,000/1,000,000 frames (2.0%)  2,000 frames/s  8m left  return: walk [fast] 310.3"
    )


@pytest.mark.parametrize(
    ("rate", "left"),
    [(0.0, "unknown time"), (10.0, "27h 46m"), (1e5, "10s"), (1e3, "16m")],
)
def test_the_time_left_is_said_in_the_unit_that_fits(rate, left):
    out = StringIO()
    with ProgressDisplay(1_000_000, "frames", console=Console(file=out)) as display:
        display.update(0, rate)
    assert out.getvalue() == f"0/1,000,000 frames (0.0%)  {rate:,.0f} frames/s  {left} left\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_that_overshoots_its_budget_ends_at_its_end(terminal):
    """Iterations are whole, so the last one may end beyond the budget."""
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with ProgressDisplay(1000, "frames", console=console, clock=Clock()) as display:
        for frames in (512, 1024):
            display.update(frames, 50.0, "walk 100.0")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "1,000/1,000 frames (100.0%)  50 frames/s  0s left" in text
    assert "walk 100.0" in text
    assert "102" not in text
    assert ("━" in text) == terminal


def test_a_display_that_is_switched_off_shows_nothing():
    out = StringIO()
    console = Console(file=out, force_terminal=True)
    with ProgressDisplay(1000, "frames", enabled=False, console=console) as display:
        display.update(500, 50.0)
    assert out.getvalue() == ""


def test_details_say_how_the_run_is_doing():
    metrics = {"train/reward_per_frame": 0.25, "loss/policy": 0.5, "loss/value": 12.0}
    evaluated = evaluation_in_words({"eval/train/return": 31.26}, 6_000)
    assert training_details(metrics, {"walk": 3.0}, evaluated) == (
        "reward 0.250 a frame  return so far: walk 3.0  loss/policy 0.5, loss/value 12  "
        "evaluated at 6,000: return 31.3"
    )
    ended = {"train/return/walk": 7.0}
    assert training_details(ended, {"walk": 3.0}, "") == "return: walk 7.0"
    many = {f"task_{index}": float(index) for index in range(9)}
    assert training_details({}, many, "") == "mean return so far of 9 tasks 4.0"


def test_partial_returns_are_of_the_running_episodes():
    suite = load_suite("debug")
    env = make_vec(suite, 4, image_size=16, threads=1)
    env.reset()
    rewards = sum(env.step(env.action_space.sample())[1] for _ in range(3))
    partial = env.partial_returns()
    env.close()
    tasks = suite.tasks("train")
    assert list(partial) == [task.name for task in tasks]
    assert partial[tasks[0].name] == pytest.approx((rewards[0] + rewards[3]) / 2)


def test_the_time_left_of_an_evaluation_is_said_from_the_first_episode_on():
    out, clock = StringIO(), Clock()
    console = Console(file=out)
    with EpisodeProgress(12, console=console, clock=clock, interval=0.0) as progress:
        clock.now = 4.0
        progress.add(2)
        clock.now = 24.0
        progress.add(10)
    assert out.getvalue().splitlines() == [
        "0/12 episodes (0.0%)  0 episodes/s  unknown time left",
        "2/12 episodes (16.7%)  0.5 episodes/s  20s left",
        "12/12 episodes (100.0%)  0.5 episodes/s  0s left",
    ]
