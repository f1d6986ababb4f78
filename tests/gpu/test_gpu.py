"""What only a GPU can show, in the order in which a new machine is tried; one table at the end.

`python -m pytest tests/gpu -m gpu -s` takes a few minutes, most of which compiles kernels.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import warp

from envs import load_suite, make_vec
from envs.simulation.mujoco_warp import WarpPhysics
from envs.simulation.variation import Dynamics, Vision, variant
from envs.simulation.warp_device import check_device, driver_version
from envs.vector.warp import WarpVectorEnv
from hrl.benchmarks import env_sweep, update
from hrl.config import load
from hrl.run.train import train
from tests.envs.simulation.warp_parity import alike, pair
from tests.envs.small import short_suite

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RANDOM_REWARD = 0.049  # a frame, of random actions on the training tasks of point_mass
_rows: list[tuple[str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    width = max((len(name) for name, _ in _rows), default=0)
    print("\n" + "\n".join(f"{name:<{width}}  {value}" for name, value in _rows))


def test_driver_and_warp() -> None:
    device = check_device("cuda")
    versions = f"torch {torch.__version__}, Warp {warp.config.version}, driver {driver_version()}"
    _rows.append((torch.cuda.get_device_name(device), versions))
    assert warp.get_device(str(device)).is_cuda


@pytest.mark.parametrize("suite", ["point_mass", "walker_speed", "quadruped_speed"])
def test_worlds_move_and_look_as_in_mujoco(suite: str) -> None:
    worlds = pair(suite, 4, device="cuda")
    rng = np.random.default_rng(0)
    worlds.settle(3, rng)
    for _ in range(10):
        worlds.step(rng)
    share = alike(*worlds.images())
    _rows.append((f"{suite}: positions after 10 steps", f"{worlds.difference('qpos'):.1e}"))
    _rows.append((f"{suite}: pixels within 2 grey levels", f"{share:.4%}"))
    assert worlds.difference("qpos") < 1e-3
    assert share > 0.99


def test_many_worlds_with_masses_of_their_own_are_captured_and_reset() -> None:
    """From 128 worlds on, older versions of MuJoCo Warp failed here with CUDA error 700."""
    [scene] = load_suite("walker_speed").scenes()
    heavy = variant(scene.model, scene.camera, Dynamics(mass=1.5), Vision())
    physics = WarpPhysics(scene, 512, 64, "cuda", [scene.model, heavy])
    control = torch.zeros(512, scene.model.nu, device="cuda")
    for _ in range(5):
        physics.step(control)
    assert np.isfinite(physics.state()).all()


def test_steps_do_not_wait_for_the_gpu() -> None:
    env = make_vec(short_suite("point_mass", 40), 64, physics="warp", device="cuda")
    assert isinstance(env, WarpVectorEnv)
    env.reset_tensors()
    actions = torch.zeros(64, 2, device="cuda")
    env.step_tensors(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ended = sum(env.step_tensors(actions).ended is not None for _ in range(30))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert ended


@pytest.mark.parametrize("suite", env_sweep.SUITES)
def test_sweep_of_worlds(suite: str) -> None:
    device = check_device("cuda")
    rows = env_sweep.sweep(load_suite(suite), env_sweep.WORLDS, device, seconds=0.5)
    assert [row["worlds"] for row in rows] == list(env_sweep.WORLDS)
    assert "fit" not in rows[0]
    for row in rows:
        if "fit" in row:
            _rows.append((f"{suite}, {row['worlds']} worlds", f"only {row['fit']} would fit"))
            continue
        described = zip(env_sweep.COLUMNS[2:], env_sweep.cells(suite, row)[2:], strict=True)
        text = ", ".join(f"{name} {value}" for name, value in described)
        _rows.append((f"{suite}, {row['worlds']} worlds", text))


def test_a_run_learns(tmp_path: Path) -> None:
    quiet = ["tracking.wandb=disabled", "tracking.videos=0", "tracking.progress=false"]
    given = ["agent=ppo", "suite=point_mass", "num_envs=256", "frames=400_000", "physics=warp"]
    started = time.perf_counter()
    folder = train(load([*given, "device=cuda", f"folder={tmp_path / 'run'}", *quiet]), "a test")
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    reward = np.mean([line["train/reward_per_frame"] for line in lines[-5:]])
    result = f"{seconds:.0f} s, reward {reward:.3f} a frame at the end"
    _rows.append(("ppo on point_mass, 400,000 frames", result))
    assert reward > 2 * RANDOM_REWARD


@pytest.mark.parametrize("cuda_graph", ["false", "true"])
def test_update_times(cuda_graph: str) -> None:
    rows = list(_update_times(f"agent.cuda_graph={cuda_graph}"))
    assert rows
    _rows.extend(rows)


def _update_times(*overrides: str) -> Iterator[tuple[str, str]]:
    found = update.run(["agent=dreamer", "device=cuda", "size=12m", *overrides], updates=10)
    for name, measured in found.items():
        if isinstance(measured, dict) and "milliseconds" in measured:
            title = f"update of {name} at size=12m, {', '.join(overrides)}"
            yield title, f"{measured['milliseconds']} ms"
