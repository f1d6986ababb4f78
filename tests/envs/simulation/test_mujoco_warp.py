"""MuJoCo Warp's CPU device, with captured graphs, against MuJoCo: states, rewards, images."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from envs.simulation import mujoco_warp, warp_device
from envs.simulation.backends import choose_physics
from envs.simulation.mujoco_warp import WarpPhysics
from envs.simulation.physics import InitialState, SimulationError
from envs.simulation.variation import Dynamics, Vision, variant
from envs.simulation.warp_faults import COUNTED, fault_names
from envs.simulation.warp_kernels import NOT_FINITE
from envs.simulation.warp_model import capacity, why_not_warp, world_bytes
from envs.suites import load_suite
from tests.envs.simulation.warp_parity import SIZE, Pair, alike, pair

# Kernels of a scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)

WORLDS = 4


@pytest.fixture(scope="module")
def walkers() -> Iterator[Pair]:
    """Walkers, every second one with other dynamics and colours, and one distractor."""
    scene = pair_scene("walker_speed")
    changed = variant(
        scene.model,
        scene.camera,
        Dynamics(mass=1.5, friction=0.5, gravity=0.8, damping=2.0, gain=0.7),
        Vision(hue=90.0, brightness=0.7, distance=1.2, roll=20.0),
    )
    found = pair("walker_speed", WORLDS, (scene.model, changed), distractors=1)
    yield found
    for physics in found.both:
        physics.close()


def pair_scene(suite: str):
    [scene] = load_suite(suite).scenes()
    return scene


def test_walkers_move_as_in_mujoco_in_the_air_and_on_the_floor(walkers: Pair) -> None:
    walkers.start(seed=0)
    rng = np.random.default_rng(1)
    touched = 0
    for _ in range(15):
        walkers.step(rng)
        touched += max(data.ncon for data in walkers.mujoco._datas)
        assert walkers.difference("qpos") < 2e-5
        assert walkers.difference("qvel") < 5e-3
        for name in ("xpos", "xmat", "geom_xpos", "sensordata", "ctrl"):
            assert walkers.difference(name) < 1e-4, name
    assert touched, "there were no contacts"
    heavy, light = (walkers.warp.fields["qvel"][world] for world in (1, 0))
    assert not torch.allclose(heavy, light)


def test_rewards_are_those_of_mujoco(walkers: Pair) -> None:
    walkers.start(seed=2)
    rng = np.random.default_rng(3)
    for _ in range(5):
        walkers.step(rng)
        rewards = [
            walkers.family.reward(physics, walkers.goals(physics)).double().numpy()
            for physics in walkers.both
        ]
        np.testing.assert_allclose(*rewards, atol=1e-5)
    assert rewards[0].max() > 0


def test_a_masked_reset_leaves_other_worlds_alone(walkers: Pair) -> None:
    walkers.start(seed=4)
    rng = np.random.default_rng(5)
    for _ in range(3):
        walkers.step(rng)
    before = walkers.warp.state()
    walkers.start(seed=6, mask=[True, False, False, True])
    after = walkers.warp.state()
    np.testing.assert_array_equal(before[1:3], after[1:3])
    assert not np.array_equal(before[0], after[0])
    for _ in range(3):
        walkers.step(rng)
    assert walkers.difference("qpos") < 1e-5


def test_images_are_those_of_the_cpu_renderer(walkers: Pair) -> None:
    walkers.start(seed=7)
    rng = np.random.default_rng(8)
    for physics in walkers.both:
        physics.set_distractors(np.tile([0.2, 0.1, -2.0], (WORLDS, 1, 1)))
    for _ in range(2):
        walkers.step(rng)
        ours, theirs = walkers.images()
        assert alike(ours, theirs) > 0.99
    shown = ours.copy()
    for physics in walkers.both:
        physics.set_distractors(np.tile([0.0, 0.0, 10.0], (WORLDS, 1, 1)))
    ours, theirs = walkers.images()
    assert alike(ours, theirs) > 0.99
    assert alike(shown, ours) < 0.999, "the distractor is not seen"
    assert alike(ours[:1], ours[1:2]) < 0.9, "both variants look alike"
    assert alike(walkers.warp.image(1, SIZE), ours[1]) == 1
    assert walkers.warp.image(1, 32).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="worlds and distractors"):
        walkers.warp.set_distractors(np.zeros((WORLDS, 2, 3)))


def test_some_worlds_are_drawn_in_place(walkers: Pair) -> None:
    stack = torch.zeros(2, SIZE, SIZE, 9, dtype=torch.uint8)
    whole = torch.zeros(WORLDS, SIZE, SIZE, 3, dtype=torch.uint8)
    walkers.warp.render(whole)
    walkers.warp.render(stack[..., -3:], torch.tensor([1, 3]))
    assert torch.equal(stack[..., -3:], whole[[1, 3]])
    assert not stack[..., :-3].any()


def test_a_saved_state_continues_bit_for_bit(walkers: Pair) -> None:
    walkers.start(seed=9)
    rng = np.random.default_rng(10)
    controls = torch.from_numpy(rng.uniform(-1, 1, (8, WORLDS, 6)))
    for control in controls[:4]:
        walkers.warp.step(control)
    saved = walkers.warp.state()
    for control in controls[4:]:
        walkers.warp.step(control)
    expected = walkers.warp.state()
    walkers.start(seed=11)
    walkers.warp.load_state(saved)
    for control in controls[4:]:
        walkers.warp.step(control)
    np.testing.assert_array_equal(walkers.warp.state(), expected)
    with pytest.raises(ValueError, match="shape"):
        walkers.warp.load_state(saved[:, 1:])


def test_a_state_that_is_not_finite_is_reported(walkers: Pair) -> None:
    walkers.start(seed=12)
    start = InitialState.of(walkers.warp.model, WORLDS)
    start.joint_velocities[2, 0] = float("nan")
    walkers.warp.reset(torch.arange(WORLDS) == 2, start)
    with pytest.raises(SimulationError, match=r"walker_speed .*world 2 \(.*not finite\)\. "):
        walkers.warp.step(torch.zeros(WORLDS, 6))
    walkers.start(seed=13)
    control = torch.zeros(WORLDS, 6)
    control[3, 5] = float("nan")
    with pytest.raises(SimulationError, match=r"world 3 \(.*control that is not finite\)"):
        walkers.warp.step(control)
    walkers.start(seed=13)
    walkers.warp.step(torch.zeros(WORLDS, 6))


def test_only_mocap_bodies_are_placed(walkers: Pair) -> None:
    with pytest.raises(ValueError, match=r"'torso' .* is not a mocap body"):
        walkers.warp.place("torso", torch.zeros(WORLDS, 3), torch.ones(WORLDS, dtype=torch.bool))


def test_full_buffers_are_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mujoco_warp, "capacity", lambda model: (8, 4))
    [scene] = load_suite("walker_speed").scenes()
    physics = WarpPhysics(scene, 2, 8)
    start = InitialState.of(physics.model, 2)
    start.joint_positions[1, 0] = -1.3  # lying on the floor
    start.joint_positions[1, 2] = np.pi / 2
    physics.reset(torch.ones(2, dtype=torch.bool), start)
    with pytest.raises(SimulationError, match=r"overflow of NEFC.*4 constraints a world"):
        physics.step(torch.zeros(2, 6))


def test_faults_have_names() -> None:
    assert fault_names(0) == []
    assert fault_names(NOT_FINITE | 1 << 3) == [
        "overflow of NARROWPHASE",
        "a position, velocity or control that is not finite",
    ]
    assert not COUNTED & NOT_FINITE
    assert not COUNTED & (1 << 9 | 1 << 10), "reaching the solver's limit of iterations is no fault"


REFUSED = {
    "ant_maze": "noslip",
    "compat point mass": "a model that differs from episode to episode",
    "compat quadruped escape": "terrain that differs from episode to episode",
}


def test_every_shipped_scene_is_simulated_or_refused_by_name() -> None:
    from envs.resources import config_files

    suites = [load_suite(name) for name in config_files("suite")]
    scenes = {scene.name: scene for suite in suites for scene in suite.scenes()}
    assert len(scenes) > 15
    for name, scene in scenes.items():
        reason = why_not_warp(scene)
        assert (reason is not None) == (name in REFUSED), (name, reason)
        if reason is not None:
            assert REFUSED[name] in reason
            with pytest.raises(ValueError, match=rf"{name}.*physics=mujoco can"):
                choose_physics("warp", [scene], "cpu")
    with pytest.raises(ValueError, match="other libraries"):
        choose_physics("warp", [], "cpu")


def test_auto_is_mujoco_on_a_cpu() -> None:
    [scene] = load_suite("point_mass").scenes()
    assert choose_physics("auto", [scene], "cpu") == "mujoco"
    assert choose_physics("warp", [scene], "cpu") == "warp"
    with pytest.raises(ValueError, match="choose from auto, mujoco, warp"):
        choose_physics("newton", [scene], "cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    [scene] = load_suite("point_mass").scenes()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"cuda:0: torch sees no CUDA device.*physics=mujoco"):
        choose_physics("warp", [scene], "cuda")
    assert choose_physics("auto", [scene], "cuda") == "mujoco"
    with pytest.raises(ValueError, match="cpu or cuda, not on 'mps'"):
        choose_physics("warp", [scene], "mps")


def test_an_old_driver_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n")
    monkeypatch.setattr(warp_device, "DRIVER_VERSION", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(warp_device.warp, "is_cuda_available", lambda: False)
    with pytest.raises(ValueError, match=r"R580 or newer.*driver is 550\.54\.15"):
        warp_device.check_device("cuda")
    with pytest.raises(ValueError, match=r"cuda:3: there are 1 CUDA devices"):
        warp_device.check_device("cuda:3")


def test_too_many_worlds_are_refused_with_the_number_that_fits() -> None:
    [scene] = load_suite("walker_speed").scenes()
    size = world_bytes(scene.model, SIZE)
    assert 2**15 < size < 2**20
    with pytest.raises(ValueError, match=r"at most \d+ fit"):
        WarpPhysics(scene, 10**9, SIZE)


def test_room_for_contacts_is_sized_from_the_model() -> None:
    [walker], [quadruped] = (
        load_suite(f"{name}_speed").scenes() for name in ("walker", "quadruped")
    )
    assert capacity(load_suite("point_mass").scenes()[0].model) == (8, 8)
    assert all(
        small < large
        for small, large in zip(capacity(walker.model), capacity(quadruped.model), strict=True)
    )
