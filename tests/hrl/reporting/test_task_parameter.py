"""Tests of where tasks lie relative to the training tasks."""

from pathlib import Path

import numpy as np

from hrl.reporting.runs import read_run
from hrl.reporting.task_parameter import hull_vertices, parameter_spaces, signed_distance
from tests.hrl.synthetic_runs import speed_suite, write_fixed


def test_distance_from_the_hull_of_a_square() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    points = np.array([[0.5, 0.5], [0.5, 0.9], [1.0, 0.5], [2.0, 0.5], [4.0, 5.0]])
    np.testing.assert_allclose(
        signed_distance(points, square), [-0.5, -0.1, 0.0, 1.0, 5.0], atol=1e-12
    )
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(
        signed_distance(points @ turn, square @ turn), signed_distance(points, square), atol=1e-12
    )
    assert len(hull_vertices(square)) == 4


def test_a_hull_without_area_has_no_inside() -> None:
    line = np.array([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(
        signed_distance(np.array([[1.0, 1.0], [3.0, 3.0], [1.0, 0.0]]), line), [0, 2**0.5, 0.5**0.5]
    )
    np.testing.assert_allclose(signed_distance(np.array([[3.0, 4.0]]), np.zeros((1, 2))), [5.0])


def test_parameter_spaces_hold_tasks_that_change_nothing_else(tmp_path: Path) -> None:
    suite = read_run(write_fixed(tmp_path / "run", speed_suite())).suite
    (space,) = parameter_spaces(suite)
    assert (space.family, space.dimension) == ("walker_speed", 1)
    assert sorted(space.train.ravel()) == [0, 1, 2, 4, 6]
    assert {split for split, _ in space.values} == {
        "train",
        "interpolation",
        "extrapolation_far",
        "novel",
    }
