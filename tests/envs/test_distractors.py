"""Discs that drift over pictures: where, when, over what, against a loop over pixels."""

import numpy as np

from envs import Suite, load_suite, make_vec
from envs.distractors import _COLOURS, MOST, RADIUS, centres, draw_distractors

SIZE = 24


def suite_with(count: float, length: int = 8) -> Suite:
    """Two tasks of a point mass, of which the second one's pictures have distractors."""
    task = {"name": "plain", "family": "point_mass", "parameters": {"target": [0.1, 0.1]}, "episode_length": length}
    other = {**task, "name": "distracted", "vision": {"distractors": count}}
    tasks = [{**one, "evaluation_seed": 0} for one in (task, other)]
    return Suite.from_dict({**load_suite("point_mass").to_dict(), "splits": {"train": tasks}})


def test_discs_cover_what_a_loop_over_pixels_says() -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 255, (4, SIZE, SIZE, 6), np.uint8)
    counts, seconds = np.array([0, 1, MOST, 3]), np.array([1.0, 2.0, 3.0, 0.0])
    before, expected = stack.copy(), stack.copy()
    for world in range(4):
        for row in range(SIZE):
            for column in range(SIZE):
                for disc in range(counts[world]):
                    across, down = centres(seconds[world : world + 1])[0, disc]
                    if (((column + 0.5) / SIZE - across) ** 2 + ((row + 0.5) / SIZE - down) ** 2) < RADIUS**2:
                        expected[world, row, column, 3:] = _COLOURS[disc]
    draw_distractors(stack[..., 3:], counts, seconds)
    np.testing.assert_array_equal(stack, expected)
    for world in range(1, 4):
        assert not np.array_equal(stack[world], before[world])


def test_discs_stay_whole_and_do_not_keep_together() -> None:
    """Over an episode of 25 s at 40 control steps a second: within the picture, everywhere in it."""
    paths = centres(np.arange(1000) / 40)
    assert paths.shape == (1000, MOST, 2)
    assert paths.min() >= RADIUS
    assert paths.max() <= 1 - RADIUS
    assert (paths.min(0) < 0.2).all()
    assert (paths.max(0) > 0.8).all()
    speeds = np.linalg.norm(np.diff(paths, axis=0), axis=-1) * 40
    assert speeds.max() < 1.0, "a picture's height a second"
    apart = np.linalg.norm(paths[:, :, None] - paths[:, None], axis=-1)[:, *np.triu_indices(MOST, 1)]
    assert (apart > 2 * RADIUS).mean(0).min() > 0.5, "any two are mostly clear of each other"


def test_only_worlds_of_such_tasks_are_drawn_over_and_all_pictures_agree() -> None:
    """Worlds change tasks after 4 steps; the last picture of an episode has the discs of its own time."""
    suite = suite_with(3)
    plain, distracted = suite.tasks("train")
    env, bare = make_vec(suite, 2, image_size=SIZE, seed=1), make_vec(suite, 2, tasks=[plain], image_size=SIZE, seed=1)
    pictures = [each.reset()[0]["pixels"] for each in (env, bare)]
    first_drift = env._drift.copy()
    rate = float(env.metadata["render_fps"])
    for number in range(1, 7):
        actions = np.zeros((2, 2), np.float32)
        results = [each.step(actions) for each in (env, bare)]
        pictures = [result[0]["pixels"] for result in results]
        seconds = env._drift + (number % 4) / rate
        expected = pictures[1].copy()
        counts = np.array([task.vision.distractors for task in env.tasks])[env._episodes.task_index].astype(int)
        draw_distractors(expected, counts, seconds)
        np.testing.assert_array_equal(pictures[0], expected)
        assert not np.array_equal(pictures[0], pictures[1])
        for world in range(2):
            np.testing.assert_array_equal(env.render_frames(world, SIZE), pictures[0][world])
        if number == 4:
            final, before = (result[4]["final_obs"]["pixels"] for result in results)
            draw_distractors(before, np.array([0, 3]), first_drift + 4 / rate)
            np.testing.assert_array_equal(final, before)
    assert (env._drift != first_drift).all(), "another stretch in every episode"
    assert distracted.to_dict()["vision"] == {"distractors": 3.0}
    env.close()
    bare.close()
