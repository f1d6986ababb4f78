"""The measurement of stepping speed: its arithmetic and its arguments, never how fast it is."""

import os

import numpy as np
import pytest

from hrl.run.stepping_speed import measure_speed


def test_environments_get_changing_actions() -> None:
    """Also if there are as many environments as actions drawn in advance, which is 64."""
    seen: list[np.ndarray] = []
    speed = measure_speed(seen.append, (64, 2), 0.05, [os.getpid()])
    assert speed.steps_per_second > 0
    assert all(action.shape == (64, 2) for action in seen)
    measured = seen[3:]
    assert not np.array_equal(measured[0], measured[1])


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_cannot_be_measured_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"seconds is .*; it must be a finite number above 0"):
        measure_speed(lambda action: None, (1, 1), seconds, [os.getpid()])
