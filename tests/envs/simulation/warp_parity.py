"""Step the same worlds with MuJoCo and with MuJoCo Warp on its CPU device."""

from typing import NamedTuple

import numpy as np
import torch

from envs.families import resolve
from envs.families.family import Family
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.mujoco_warp import WarpPhysics
from envs.simulation.physics import InitialState, Physics
from envs.suites import load_suite
from envs.tasks import Task

SIZE = 64


class Pair(NamedTuple):
    """Hold both simulators of the same worlds, and what they simulate."""

    warp: Physics
    mujoco: Physics
    family: Family
    tasks: list[Task]
    variants: int

    @property
    def both(self) -> tuple[Physics, Physics]:
        return self.warp, self.mujoco

    def start(self, seed: int = 0, mask: list[bool] | None = None) -> None:
        """Start episodes of the tasks in both, in all worlds or in those of the mask."""
        count = self.warp.num_worlds
        start = InitialState.of(self.warp.model, count)
        rng = np.random.default_rng(seed)
        for world in range(count):
            drawn = self.family.start(self.tasks[world % len(self.tasks)], rng)
            start.joint_positions[world] = torch.from_numpy(drawn.joint_positions)
            start.joint_velocities[world] = torch.from_numpy(drawn.joint_velocities)
            start.mocap_positions[world] = torch.from_numpy(drawn.mocap_positions)
        start.variants = torch.arange(count) % self.variants
        chosen = torch.tensor(mask) if mask else torch.ones(count, dtype=torch.bool)
        self.mujoco.reset(chosen, start)
        self.warp.reset(chosen, start)

    def step(self, rng: np.random.Generator) -> None:
        """Take one control step under the same random control in both."""
        low, high = self.warp.model.actuator_ctrlrange.T
        control = torch.from_numpy(rng.uniform(low, high, (self.warp.num_worlds, len(low))))
        for physics in self.both:
            physics.step(control)

    def settle(self, control_steps: int, rng: np.random.Generator) -> None:
        """Let both go on from where MuJoCo's worlds are after some control steps.

        Some tasks begin exactly where feet touch the floor: rounding decides whether they do.
        """
        low, high = self.warp.model.actuator_ctrlrange.T
        for _ in range(control_steps):
            control = torch.from_numpy(rng.uniform(low, high, (self.warp.num_worlds, len(low))))
            self.mujoco.step(control)
        names = ("qpos", "qvel", "mocap_pos")
        start = InitialState(*(self.mujoco.fields[name].clone() for name in names))
        everywhere = torch.ones(self.warp.num_worlds, dtype=torch.bool)
        for physics in self.both:
            physics.reset(everywhere, start)

    def goals(self, physics: Physics) -> torch.Tensor:
        """Return the goals of all worlds, as a simulator's rewards need them."""
        rows = [
            self.family.goal(self.tasks[world % len(self.tasks)])
            for world in range(physics.num_worlds)
        ]
        return torch.from_numpy(np.stack(rows)).to(physics.fields["qpos"])

    def difference(self, name: str) -> float:
        """Return the largest difference in a field."""
        ours, theirs = (physics.fields[name].double().cpu() for physics in self.both)
        return float((ours - theirs).abs().max()) if ours.numel() else 0.0

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of both, in MuJoCo's present state."""
        drawn = []
        for physics in self.both:
            out = torch.zeros(physics.num_worlds, SIZE, SIZE, 3, dtype=torch.uint8)
            physics.render(out)
            drawn.append(out.numpy())
        return drawn[0], drawn[1]


def pair(
    suite: str, num_worlds: int, variants: tuple = (), distractors: int = 0, device: str = "cpu"
) -> Pair:
    """Return both simulators of a suite's scene, in the first states of its training tasks."""
    tasks = list(load_suite(suite).tasks("train"))
    family = resolve(tasks[0])
    found = Pair(
        WarpPhysics(family.scene, num_worlds, SIZE, device, variants, distractors),
        MujocoPhysics(family.scene, num_worlds, SIZE, 1, variants, distractors),
        family,
        tasks,
        max(1, len(variants)),
    )
    found.start()
    return found


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of pixels whose colours differ by at most 2 grey levels."""
    return float((np.abs(first.astype(int) - second).max(-1) <= 2).mean())
