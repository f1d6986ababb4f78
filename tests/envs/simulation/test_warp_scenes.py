"""Every shipped scene that MuJoCo Warp can simulate moves and looks as in MuJoCo."""

import numpy as np
import pytest

from envs.resources import config_files
from envs.simulation.warp_model import why_not_warp
from envs.suites import Suite, load_suite
from tests.envs.simulation.warp_parity import alike, pair

# Kernels of a scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)

CONTROL_STEPS = 10


def suites_by_scene() -> dict[str, Suite]:
    """Return for every scene of one body a suite that has it."""
    found: dict[str, Suite] = {}
    for name in config_files("suite"):
        suite = load_suite(name)
        if len(suite.scenes()) == 1:
            found.setdefault(suite.scenes()[0].name, suite)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scene", sorted(suites_by_scene()))
def test_a_scene_moves_and_looks_as_in_mujoco(scene: str) -> None:
    suite = suites_by_scene()[scene]
    if why_not_warp(suite.scenes()[0]) is not None:
        pytest.skip(f"physics=warp refuses it: {why_not_warp(suite.scenes()[0])}")
    worlds = pair(suite.name, 3)
    rng = np.random.default_rng(0)
    worlds.settle(3, rng)
    for _ in range(CONTROL_STEPS):
        worlds.step(rng)
        rewards = [
            worlds.family.reward(physics, worlds.goals(physics)).double().numpy()
            for physics in worlds.both
        ]
        np.testing.assert_allclose(*rewards, atol=1e-3)
    for name, tolerance in (("qpos", 1e-3), ("geom_xpos", 1e-3), ("mocap_pos", 1e-6)):
        assert worlds.difference(name) < tolerance, name
    # Readings of accelerations are as stiff as contacts.
    scale = 1 + float(
        worlds.mujoco.fields["sensordata"].abs().max() if worlds.warp.model.nsensor else 0
    )
    assert worlds.difference("sensordata") < 1e-2 * scale
    assert alike(*worlds.images()) > 0.99
    for physics in worlds.both:
        physics.close()
