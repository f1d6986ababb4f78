"""Numbers that a benchmark cannot be run with are refused before anything is measured."""

from collections.abc import Callable

import pytest

from hrl.benchmarks import env, learner, replay, update
from hrl.config import ConfigError


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: env.run(seconds=0.0), "seconds is 0.0; it must be a finite number above 0"),
        (lambda: env.run(seconds=float("nan")), "seconds is nan; it must be a finite number"),
        (lambda: env.run(num_envs=0), "num_envs is 0; it must be at least 1"),
        (lambda: learner.run(iterations=0), "iterations is 0; it must be at least 1"),
        (lambda: update.run([], updates=1), "updates is 1; it must be at least 2"),
        (lambda: replay.run(rounds=1), "rounds is 1; it must be at least 2"),
        (lambda: replay.run(length=1), "length is 1; it must be at least 2"),
        (lambda: replay.run(batch=0), "batch is 0; it must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(measure: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure()


def test_an_unknown_peer_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learner, "_learner", lambda config: pytest.fail("a learner was made"))
    with pytest.raises(ConfigError, match="nobody"):
        learner.run(peer="nobody")
