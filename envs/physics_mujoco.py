"""Physics on the CPU: MuJoCo C, one MjData a world, contiguous chunks of worlds over a pool of threads."""

import copy
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs.physics import Physics, Scene, SimulationError, Start
from envs.renderer import POSES, RayTracer

# Gathered after every control step.
_FIELDS = ("qpos", "qvel", "ctrl", "xpos", "xmat", "geom_xpos", "mocap_pos", "sensordata")
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class MujocoPhysics(Physics):
    """MuJoCo C over a thread pool: the binding gives up Python's lock inside every call.

    One control step is what dm_control's `Physics.step(n)` does: `mj_step2`, `mj_step` n-1 times, `mj_step1`, so that
    positions, velocities and sensors belong to the new state; with Runge-Kutta `mj_step` n times, `mj_step1`.
    """

    def __init__(self, scene: Scene, num_worlds: int, image_size: int, threads: int | None = None) -> None:
        """Make the worlds. `threads` is the number of worker threads: by default one for every core there is."""
        self.model = copy.copy(scene.model)
        # A bad state must be reported, not replaced by the initial one behind the task's back.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
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
        rows = [tensor.numpy() for tensor in (start.joint_positions, start.joint_velocities, start.mocap_positions)]
        chosen = mask.numpy()
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
        self._galleries[size].draw(1, out)
        picture: np.ndarray = out[0]
        return picture

    def state(self) -> Float[np.ndarray, "world state"]:
        """See `Physics.state`: MuJoCo's integration state, the solver's warm start included."""
        out = np.zeros((self.num_worlds, mujoco.mj_stateSize(self.model, _STATE)))
        for data, row in zip(self._datas, out, strict=True):
            mujoco.mj_getState(self.model, data, row, _STATE)
        return out

    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        """See `Physics.load_state`."""
        expected = (self.num_worlds, mujoco.mj_stateSize(self.model, _STATE))
        if state.shape != expected:
            raise ValueError(f"state must have the shape {expected} of these worlds, got {state.shape}")
        self._each(lambda chunk: chunk.load(state))

    def close(self) -> None:
        """See `Physics.close`."""
        if self._pool is not None:
            self._pool.shutdown()

    def _chunk(self, low: int, high: int, image_size: int) -> "_Chunk":
        arrays = {name: array[low:high] for name, array in self._arrays.items()}
        tracer = RayTracer(self._scene, image_size, high - low)
        return _Chunk(self.model, self._datas[low:high], low, arrays, self._warnings[low:high], tracer)

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
    """The worlds of one thread: `low` is the first one's number, `arrays` are this chunk's rows of the batch."""

    def __init__(
        self,
        model: mujoco.MjModel,
        datas: list[mujoco.MjData],
        low: int,
        arrays: dict[str, np.ndarray],
        warnings: np.ndarray,
        tracer: RayTracer,
    ) -> None:
        self._model, self._datas, self._low, self._tracer = model, datas, low, tracer
        # Runge-Kutta takes whole steps only.
        self._in_halves = int(model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4)
        # The same model without actuation: what dm_control uses to bring a new state up to date.
        self._passive = copy.copy(model)
        self._passive.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        # Views into every MjData are made once: making one costs more than copying through it.
        self._controls = [data.ctrl for data in datas]
        self._poses = {name: [getattr(data, name).reshape(-1) for data in datas] for name in POSES}
        self._gathered = [
            ([getattr(data, name).reshape(-1) for data in datas], array.reshape(-1)) for name, array in arrays.items()
        ]
        self._gathered.append(([data.warning.number for data in datas], warnings.reshape(-1)))

    def step(self, controls: np.ndarray, substeps: int) -> None:
        model = self._model
        for data, view, control in zip(self._datas, self._controls, controls[self._low :], strict=False):
            view[:] = control
            if self._in_halves:
                mujoco.mj_step2(model, data)
            if substeps > self._in_halves:
                mujoco.mj_step(model, data, substeps - self._in_halves)
            mujoco.mj_step1(model, data)
        self._gather()

    def reset(self, mask: np.ndarray, positions: np.ndarray, velocities: np.ndarray, mocap: np.ndarray) -> None:
        for world, data in enumerate(self._datas, self._low):
            if mask[world]:
                mujoco.mj_resetData(self._model, data)
                data.qpos[:], data.qvel[:], data.mocap_pos[:] = positions[world], velocities[world], mocap[world]
                mujoco.mj_forward(self._passive, data)
        self._gather()

    def place(self, mask: np.ndarray, mocap: int, positions: np.ndarray) -> None:
        for world, data in enumerate(self._datas, self._low):
            if mask[world]:
                data.mocap_pos[mocap] = positions[world]
                # As at the end of a step: contacts and pictures must know of it.
                mujoco.mj_step1(self._model, data)
        self._gather()

    def load(self, state: np.ndarray) -> None:
        for data, row in zip(self._datas, state[self._low :], strict=False):
            mujoco.mj_resetData(self._model, data)
            mujoco.mj_setState(self._model, data, row, _STATE)
            # All that the next `mj_step2` reads besides the state.
            mujoco.mj_step1(self._model, data)
        self._gather()

    def draw(self, listed: np.ndarray, out: np.ndarray) -> None:
        rows = np.flatnonzero((listed >= self._low) & (listed < self._low + len(self._datas)))
        if len(rows):
            worlds = (listed[rows] - self._low).tolist()
            for name, views in self._poses.items():
                target = self._tracer.poses[name][: len(worlds)].reshape(-1)
                np.concatenate([views[world] for world in worlds], out=target, casting="same_kind")
            # The rows of a chunk are contiguous because `listed` is in ascending order.
            self._tracer.draw(len(worlds), out[rows[0] : rows[-1] + 1])

    def _gather(self) -> None:
        for views, target in self._gathered:
            np.concatenate(views, out=target)
