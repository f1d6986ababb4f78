"""Physics on the CPU: MuJoCo C, one MjData a world, contiguous chunks of worlds over a pool of threads."""

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs.physics import Physics, Scene, SimulationError, Start
from envs.renderer import LOOKS, POSES, RayTracer

# Gathered after every control step.
_FIELDS = ("qpos", "qvel", "ctrl", "xpos", "xmat", "geom_xpos", "mocap_pos", "sensordata")
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class MujocoPhysics(Physics):
    """MuJoCo C over a thread pool: the binding gives up Python's lock inside every call.

    One control step is what dm_control's `Physics.step(n)` does: `mj_step2`, `mj_step` n-1 times, `mj_step1`, so that
    positions, velocities and sensors belong to the new state; with Runge-Kutta `mj_step` n times, `mj_step1`.
    """

    def __init__(
        self,
        scene: Scene,
        num_worlds: int,
        image_size: int,
        threads: int | None = None,
        variants: Sequence[mujoco.MjModel] = (),
    ) -> None:
        """Make the worlds, all of the first variant until `reset`.

        Args:
            threads: number of worker threads, by default one for every core there is.
            variants: of the scene's model (see `envs.variation`), among which starts choose; by default itself alone.
        """
        self._models = [copy.copy(model) for model in variants or [scene.model]]
        for model in self._models:
            # A bad state must be reported, not replaced by the initial one behind the task's back.
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.model = self._models[0]
        self.num_worlds = num_worlds
        self._scene = scene
        self._datas = [mujoco.MjData(self.model) for _ in range(num_worlds)]
        self._arrays = {name: np.zeros((num_worlds, *getattr(self._datas[0], name).shape)) for name in _FIELDS}
        self._warnings = np.zeros((num_worlds, len(self._datas[0].warning.number)), np.int32)
        self.fields = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        count = min(num_worlds, threads or len(os.sched_getaffinity(0)))
        bounds = [round(i * num_worlds / count) for i in range(count + 1)]
        self._chunks = [self._chunk(low, high, image_size) for low, high in pairwise(bounds)]
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="physics") if count > 1 else None
        self._galleries: dict[int, RayTracer] = {}
        self.reset(torch.ones(num_worlds, dtype=torch.bool), Start.of(self.model, num_worlds))

    def step(self, control: Float[Tensor, "world actuator"]) -> None:
        """See `Physics.step`."""
        rows = control.to(torch.float64).numpy()
        self._each(lambda chunk: chunk.step(rows, self._scene.substeps))
        if self._warnings.any():
            raise SimulationError(self._describe_warnings())

    def reset(self, mask: Bool[Tensor, " world"], start: Start) -> None:
        """See `Physics.reset`."""
        variants = torch.zeros(self.num_worlds, dtype=torch.int64) if start.variants is None else start.variants
        parts = (start.joint_positions, start.joint_velocities, start.mocap_positions, variants)
        rows, chosen = [tensor.numpy() for tensor in parts], mask.numpy()
        self._each(lambda chunk: chunk.reset(chosen, *rows))

    def place(self, body: str, positions: Float[Tensor, "world 3"], mask: Bool[Tensor, " world"]) -> None:
        """See `Physics.place`."""
        mocap = int(self.model.body(body).mocapid[0])
        if mocap < 0:
            raise ValueError(f"body {body!r} of {self._scene.name} is not a mocap body and cannot be placed")
        chosen = mask.numpy()
        if chosen.any():
            rows = positions.numpy()
            self._each(lambda chunk: chunk.place(chosen, mocap, rows))

    def render(self, out: UInt8[Tensor, "drawn height width 3"], worlds: Tensor | None = None) -> None:
        """See `Physics.render`."""
        pixels = out.numpy()
        listed = np.arange(self.num_worlds) if worlds is None else worlds.numpy()
        self._each(lambda chunk: chunk.draw(listed, pixels))

    def picture(self, world: int, size: int) -> UInt8[np.ndarray, "height width 3"]:
        """See `Physics.picture`."""
        if size not in self._galleries:
            self._galleries[size] = RayTracer(self._scene, size, 1)
        out: np.ndarray = np.empty((1, size, size, 3), np.uint8)
        for name in POSES:
            self._galleries[size].poses[name][0] = getattr(self._datas[world], name).reshape(-1)
        chunk = next(chunk for chunk in self._chunks if world < chunk.end)
        for name in LOOKS:
            self._galleries[size].looks[name][0] = getattr(chunk.model_of(world), name).reshape(-1)
        self._galleries[size].draw(1, out)
        picture: np.ndarray = out[0]
        return picture

    def state(self) -> Float[np.ndarray, "world state"]:
        """See `Physics.state`: MuJoCo's integration state, the solver's warm start included; then any variant."""
        size = mujoco.mj_stateSize(self.model, _STATE)
        out: np.ndarray = np.zeros((self.num_worlds, size + self._varied))
        for data, row in zip(self._datas, out, strict=True):
            mujoco.mj_getState(self.model, data, row[:size], _STATE)
        if self._varied:
            out[:, size] = np.concatenate([chunk.variants for chunk in self._chunks])
        return out

    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        """See `Physics.load_state`."""
        size = mujoco.mj_stateSize(self.model, _STATE)
        expected = (self.num_worlds, size + self._varied)
        if state.shape != expected:
            raise ValueError(f"state must have the shape {expected} of these worlds, got {state.shape}")
        variants = state[:, size].astype(np.int64) if self._varied else np.zeros(self.num_worlds, np.int64)
        self._each(lambda chunk: chunk.load(state[:, :size], variants))

    def close(self) -> None:
        """See `Physics.close`."""
        if self._pool is not None:
            self._pool.shutdown()

    @property
    def _varied(self) -> bool:
        """Whether the state says which variant a world follows."""
        return len(self._models) > 1

    def _chunk(self, low: int, high: int, image_size: int) -> "_Chunk":
        arrays = {name: array[low:high] for name, array in self._arrays.items()}
        tracer = RayTracer(self._scene, image_size, high - low)
        return _Chunk(self._models, self._datas[low:high], low, arrays, self._warnings[low:high], tracer)

    def _each(self, work: Callable[["_Chunk"], None]) -> None:
        if self._pool is None:
            work(self._chunks[0])
        else:
            list(self._pool.map(work, self._chunks))

    def _describe_warnings(self) -> str:
        kinds = list(mujoco.mjtWarning.__members__)
        worlds = [
            f"world {world} ({', '.join(kinds[kind] for kind in np.flatnonzero(self._warnings[world]))} at "
            f"{self._datas[world].time:.3f} s, qpos {self._arrays['qpos'][world]})"
            for world in np.flatnonzero(self._warnings.any(axis=1))
        ]
        return f"{self._scene.name} cannot be simulated any further: " + "; ".join(worlds)


class _Chunk:
    """The worlds of one thread.

    Args:
        models: the variants of the dynamics.
        low: number of the first world.
        arrays: this chunk's rows of the batch.

    Attributes:
        variants: which model each of these worlds follows.
        end: number after the last world's.
    """

    def __init__(
        self,
        models: list[mujoco.MjModel],
        datas: list[mujoco.MjData],
        low: int,
        arrays: dict[str, np.ndarray],
        warnings: np.ndarray,
        tracer: RayTracer,
    ) -> None:
        self._models, self._datas, self._low, self._tracer = models, datas, low, tracer
        self.variants, self.end = np.zeros(len(datas), np.int64), low + len(datas)
        # Runge-Kutta takes whole steps only.
        self._in_halves = int(models[0].opt.integrator != mujoco.mjtIntegrator.mjINT_RK4)
        # The same models without actuation: what dm_control uses to bring a new state up to date.
        self._passive = [copy.copy(model) for model in models]
        for passive in self._passive:
            passive.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        self._looks = {name: np.stack([getattr(model, name).reshape(-1) for model in models]) for name in LOOKS}
        for name, looks in self._looks.items():
            tracer.looks[name][:] = looks[0]
        # Views into every MjData are made once: making one costs more than copying through it.
        self._controls = [data.ctrl for data in datas]
        self._poses = {name: [getattr(data, name).reshape(-1) for data in datas] for name in POSES}
        self._gathered = [
            ([getattr(data, name).reshape(-1) for data in datas], array.reshape(-1)) for name, array in arrays.items()
        ]
        self._gathered.append(([data.warning.number for data in datas], warnings.reshape(-1)))

    def model_of(self, world: int) -> mujoco.MjModel:
        return self._models[self.variants[world - self._low]]

    def step(self, controls: np.ndarray, substeps: int) -> None:
        # Looked up once a step: a chunk's worlds mostly follow one variant, and an index into numpy costs more.
        models = [self._models[variant] for variant in self.variants.tolist()]
        worlds = zip(models, self._datas, self._controls, controls[self._low :], strict=False)
        for model, data, view, control in worlds:
            view[:] = control
            if self._in_halves:
                mujoco.mj_step2(model, data)
            if substeps > self._in_halves:
                mujoco.mj_step(model, data, substeps - self._in_halves)
            mujoco.mj_step1(model, data)
        self._gather()

    def reset(
        self, mask: np.ndarray, positions: np.ndarray, velocities: np.ndarray, mocap: np.ndarray, variants: np.ndarray
    ) -> None:
        for world, data in enumerate(self._datas, self._low):
            if mask[world]:
                variant = self.variants[world - self._low] = variants[world]
                mujoco.mj_resetData(self._models[variant], data)
                data.qpos[:], data.qvel[:], data.mocap_pos[:] = positions[world], velocities[world], mocap[world]
                mujoco.mj_forward(self._passive[variant], data)
        self._gather()

    def place(self, mask: np.ndarray, mocap: int, positions: np.ndarray) -> None:
        for world, data in enumerate(self._datas, self._low):
            if mask[world]:
                data.mocap_pos[mocap] = positions[world]
                # As at the end of a step: contacts and pictures must know of it.
                mujoco.mj_step1(self._models[self.variants[world - self._low]], data)
        self._gather()

    def load(self, state: np.ndarray, variants: np.ndarray) -> None:
        self.variants[:] = variants[self._low : self._low + len(self._datas)]
        for variant, data, row in zip(self.variants, self._datas, state[self._low :], strict=False):
            model = self._models[variant]
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, row, _STATE)
            # All that the next `mj_step2` reads besides the state.
            mujoco.mj_step1(model, data)
        self._gather()

    def draw(self, listed: np.ndarray, out: np.ndarray) -> None:
        rows = np.flatnonzero((listed >= self._low) & (listed < self._low + len(self._datas)))
        if len(rows):
            worlds = (listed[rows] - self._low).tolist()
            for name, views in self._poses.items():
                target = self._tracer.poses[name][: len(worlds)].reshape(-1)
                np.concatenate([views[world] for world in worlds], out=target, casting="same_kind")
            if len(self._models) > 1:
                for name, looks in self._looks.items():
                    self._tracer.looks[name][: len(worlds)] = looks[self.variants[worlds]]
            # The rows of a chunk are contiguous because `listed` is in ascending order.
            self._tracer.draw(len(worlds), out[rows[0] : rows[-1] + 1])

    def _gather(self) -> None:
        for views, target in self._gathered:
            np.concatenate(views, out=target)
