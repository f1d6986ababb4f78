"""The speed measurement runs, and compares like with like."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from hrl.benchmarks import env as benchmark_env
from hrl.run.stepping_speed import SteppingSpeed


def test_without_opengl_only_ours_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark_env, "opengl_backend", lambda: None)
    result = benchmark_env.run(num_envs=2, seconds=0.02)
    assert "skipped" in capsys.readouterr().err
    for suite in ("walker_speed", "point_mass"):
        assert result[suite]["steps_per_second"] > 0
        assert result[suite]["cpu_milliseconds"] >= 0
        assert "ratio" not in result[suite]


def test_ratios_are_of_neighbours_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(benchmark_env, "opengl_backend", lambda: "egl")
    monkeypatch.setattr(benchmark_env, "_ours", lambda *_: SteppingSpeed(600.0, 0.5))
    monkeypatch.setattr(benchmark_env, "peer_speed", _peers(speeds))
    monkeypatch.setattr(benchmark_env, "PEERS", {"point_mass": benchmark_env.PEERS["point_mass"]})
    result = benchmark_env.run()["point_mass"]
    assert (result["ratio"], result["cpu_ratio"]) == (30.0, 20.0)
    assert (result["steps_per_second"], result["peer_steps_per_second"]) == (600.0, 20.0)


def _peers(speeds: Iterator[float]) -> Callable[..., SteppingSpeed]:
    # Two trials choose the number of processes; the measurements follow.
    trials = iter([SteppingSpeed(1.0, 1.0), SteppingSpeed(2.0, 1.0)])
    return lambda *_: next(trials, None) or SteppingSpeed(next(speeds), 10.0)


@pytest.mark.slow
def test_the_peer_shows_dm_controls_images() -> None:
    backend = benchmark_env.opengl_backend()
    if backend is None:
        pytest.skip("no OpenGL here")
    program = (
        "import numpy as np; from hrl.benchmarks.env import DmControlPixels; "
        "env = DmControlPixels('walker', 'walk'); env.reset(); "
        "pixels = env.step(np.zeros(6))[0]; assert pixels.std() > 0; "
        "print(pixels.shape, pixels.dtype)"
    )
    # In a process of its own: this one may have loaded dm_control without OpenGL.
    environment = os.environ | {"MUJOCO_GL": backend}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "(64, 64, 3) uint8", done.stderr
