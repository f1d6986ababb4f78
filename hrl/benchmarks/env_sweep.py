"""Measure how the speed of MuJoCo Warp's environments grows with the number of worlds."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from envs import load_suite
from envs.make import make_vec
from envs.simulation.backends import WARP, choose_physics
from envs.simulation.warp_device import check_device, driver_version, most_worlds
from envs.simulation.warp_model import world_bytes
from envs.suites import Suite
from envs.vector.warp import WarpVectorEnv
from hrl.benchmarks.env import IMAGE_SIZE, DmControlTask, opengl_backend, peer_speed
from hrl.benchmarks.timing import check_at_least, timed
from hrl.config import ConfigError
from hrl.run import hardware
from hrl.run.stepping_speed import check_seconds

SUITES = ("walker_speed", "quadruped_speed", "point_mass", "quadruped_maze")
WORLDS = (256, 512, 1024, 2048, 4096, 8192)
# For suites that have one, dm_control's task with the same body, camera and action repeat.
PEERS = {
    "walker_speed": DmControlTask("walker", "walk"),
    "quadruped_speed": DmControlTask("quadruped", "walk", "y"),
    "point_mass": DmControlTask("point_mass", "easy"),
}
MOST_PEER_PROCESSES = 16
# Different random actions, which are made before anything is timed.
ACTIONS = 16
FEWEST_CALLS = 3
COLUMNS = ("suite", "worlds", "steps/s", "ms/step", "physics", "images", "rest", "KiB/world")

Row = dict[str, Any]


def run(
    device: str = "cuda",
    suites: Sequence[str] = SUITES,
    worlds: Sequence[int] = WORLDS,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Return agent steps per second with physics=warp, for each suite and number of worlds.

    Each row is printed as soon as it is measured. Beside them dm_control is measured with images in
    OpenGL, where that works, in as many processes as there are cores, at most 16.

    Args:
        device: that simulates: cpu, cuda, cuda:NUMBER, or auto.
        suites: names of suites of one body that MuJoCo Warp can simulate.
        worlds: numbers of worlds; those that do not fit into the device's memory are named with the
            number that would fit, and left out.
        seconds: about how long each measurement takes, above 0.

    Returns:
        By suite `rows`, see `sweep`, and where dm_control was measured `peer_steps_per_second` and
        `peer_processes`. `device` and the `driver`'s version.

    Raises:
        ConfigError: an argument out of its range, a suite or a device that cannot be measured.
    """
    check_at_least(1, **{f"worlds={number}": number for number in worlds})
    try:
        check_seconds(seconds)
        chosen = check_device(hardware.choose_device(device))
        loaded = [_checked_suite(name, chosen) for name in suites]
    except ValueError as error:
        raise ConfigError(str(error)) from error
    on_gpu = chosen.type == "cuda"
    backend = opengl_backend()
    print(_line(COLUMNS))
    found: dict[str, Any] = {
        suite.name: {"rows": sweep(suite, worlds, chosen, seconds)}
        | _peer(suite.name, seconds, backend)
        for suite in loaded
    }
    return found | {
        "device": torch.cuda.get_device_name(chosen) if on_gpu else "cpu",
        "driver": driver_version() if on_gpu else None,
    }


def sweep(suite: Suite, worlds: Sequence[int], device: torch.device, seconds: float) -> list[Row]:
    """Return a row for each number of worlds of a suite, and print it.

    First episodes begin part of the way to their time limits, as in training, so that a few worlds
    are reset in most steps.

    Returns:
        Rows with `worlds`, `steps_per_second`, `milliseconds` of an agent step of all worlds and of
        its parts `physics` (the control steps), `images` (drawing into the frame stack) and `rest`
        (rewards, episodes and their ends), and `kib_a_world`: on a GPU the memory that was taken,
        on a CPU the size of the worlds' arrays. Where so many worlds do not fit, `worlds` and `fit`
        alone: the number that would fit.
    """
    rows: list[Row] = []
    size = float(_counted_bytes(suite))
    for number in worlds:
        fit = most_worlds(device, size)
        if number > fit:
            message = f"{suite.name}: {number} worlds do not fit into the memory of {device}"
            print(f"{message}; {fit} would", file=sys.stderr)
            rows.append({"worlds": number, "fit": fit})
            continue
        row = _measure(suite, number, device, seconds)
        size = max(size, 1024.0 * row["kib_a_world"])
        print(_line(cells(suite.name, row)), flush=True)
        rows.append(row)
    return rows


def cells(suite: str, row: Row) -> tuple[str, ...]:
    """Return a measured row as the texts of `COLUMNS`."""
    milliseconds = row["milliseconds"]
    times = [f"{milliseconds[part]:.2f}" for part in ("step", "physics", "images", "rest")]
    speed = f"{row['steps_per_second']:,.0f}"
    return (suite, str(row["worlds"]), speed, *times, f"{row['kib_a_world']:.0f}")


# Private functions.


def _checked_suite(name: str, device: torch.device) -> Suite:
    suite = load_suite(name)
    if suite.mixed:
        raise ValueError(f"suite {name!r} has several bodies; choose suites of one body")
    choose_physics(WARP, suite.scenes(), device)
    return suite


def _measure(suite: Suite, worlds: int, device: torch.device, seconds: float) -> Row:
    free = _free_on_gpu(device)
    env = make_vec(
        suite,
        worlds,
        image_size=IMAGE_SIZE,
        random_initial_episode_step=True,
        physics=WARP,
        device=device,
    )
    assert isinstance(env, WarpVectorEnv)
    spent = _spent(env, seconds)
    taken = free - _free_on_gpu(device)
    env.close()
    del env
    _release(device)
    return {
        "worlds": worlds,
        "steps_per_second": round(worlds / spent["step"], 1),
        "milliseconds": {name: round(1e3 * value, 3) for name, value in spent.items()},
        "kib_a_world": round((taken / worlds if taken else _counted_bytes(suite)) / 2**10, 1),
    }


def _spent(env: WarpVectorEnv, seconds: float) -> dict[str, float]:
    """Return the seconds of an agent step of all worlds, and of its parts."""
    env.reset_tensors()
    actions = _random_actions(env)
    controls = [env.control(action) for action in actions]
    step = _mean_seconds(lambda count: env.step_tensors(actions[count % ACTIONS]), seconds)
    advance = _mean_seconds(lambda count: env.physics.step(controls[count % ACTIONS]), seconds)
    images = _mean_seconds(lambda _: env.stack.push(), seconds)
    physics = advance * env.action_repeat
    return {"step": step, "physics": physics, "images": images, "rest": step - physics - images}


def _random_actions(env: WarpVectorEnv) -> list[torch.Tensor]:
    """Return actions for some steps of all worlds, uniform in [-1, 1], on the device."""
    generator = torch.Generator().manual_seed(0)
    shape = (env.num_envs, *(env.single_action_space.shape or ()))
    draws = torch.rand(ACTIONS, *shape, generator=generator)
    return list((2 * draws - 1).to(env.device))


def _mean_seconds(call: Callable[[int], object], seconds: float) -> float:
    """Return the mean time of a call, of as many as take about so many seconds.

    It is called with a count. A first call is not counted, and a second one is timed to choose how
    many follow.
    """
    call(0)
    once, _ = timed(lambda: call(1))
    calls = max(FEWEST_CALLS, int(seconds / once))

    def repeat() -> None:
        for count in range(calls):
            call(count)

    return timed(repeat)[0] / calls


def _peer(suite: str, seconds: float, backend: str | None) -> dict[str, Any]:
    if backend is None or suite not in PEERS:
        return {}
    processes = min(MOST_PEER_PROCESSES, len(os.sched_getaffinity(0)))
    speed = peer_speed(PEERS[suite], processes, seconds, backend).steps_per_second
    print(f"{suite}: dm_control, {processes} processes with {backend}: {speed:,.0f} steps/s")
    return {"peer_steps_per_second": round(speed, 1), "peer_processes": processes}


def _counted_bytes(suite: Suite) -> int:
    """Return the bytes of one world's arrays, with its frame stack of one image."""
    [scene] = suite.scenes()
    return world_bytes(scene.model, IMAGE_SIZE) + 3 * IMAGE_SIZE**2


def _free_on_gpu(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def _release(device: torch.device) -> None:
    """Give a GPU's memory back, so that the next measurement finds all of it free."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _line(texts: Sequence[str]) -> str:
    first, *others = texts
    return f"{first:<16}" + "".join(f"{text:>11}" for text in others)
