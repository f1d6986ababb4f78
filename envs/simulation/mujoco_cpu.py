"""Simulate on the CPU: MuJoCo C, one MjData per world, contiguous chunks of worlds per thread."""

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
from typing_extensions import override

from envs.simulation.distractors import OUT_OF_SIGHT
from envs.simulation.fixed_camera import FixedCamera, window_size
from envs.simulation.physics import InitialState, Physics, Scene, SimulationError
from envs.simulation.renderer import APPEARANCE_FIELDS, POSES, RayTracer
from envs.simulation.terrain import Terrain, has_terrain

# Fields of MjData that are copied into the batch after every control step.
_FIELDS = ("qpos", "qvel", "act", "ctrl", "xpos", "xmat", "geom_xpos", "mocap_pos", "sensordata")
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# With more mocap bodies than this the ray tracer's tree is sorted anew when an episode starts.
_FEW_MOCAP_BODIES = 8
# Where a window of at most this share of the image's side is drawn (see `FixedCamera`), most of a
# step is Python's own work, for which threads only wait for each other.
_SMALL_WINDOW = 0.25


class MujocoPhysics(Physics):
    """Run MuJoCo C in a thread pool; its Python binding releases the lock inside every call.

    One control step is what dm_control's `Physics.step(n)` does: `mj_step2`, `mj_step` n-1 times,
    `mj_step1`, so that positions, velocities and sensors belong to the new state; with Runge-Kutta
    `mj_step` n times, `mj_step1`.

    All worlds have the first variant until `reset`.

    Args:
        scene: model, camera and control rate.
        num_worlds: number of worlds.
        image_size: height and width of the observation in pixels.
        threads: number of worker threads; by default one for every core, and a single one where
            small windows of the images are all that is drawn.
        variants: variants of the scene's model (see `envs.simulation.variation`), among which
            initial states choose; by default the model alone.
        distractors: number of distractors in the images, at the positions that `set_distractors`
            gives them (see `envs.simulation.distractors`).
    """

    def __init__(
        self,
        scene: Scene,
        num_worlds: int,
        image_size: int,
        threads: int | None = None,
        variants: Sequence[mujoco.MjModel] = (),
        distractors: int = 0,
    ) -> None:
        self._models = [copy.copy(model) for model in variants or [scene.model]]
        for model in self._models:
            # A bad state must be reported, not silently replaced by the initial one.
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.model = self._models[0]
        self.num_worlds = num_worlds
        self._scene = scene
        self._distractors = distractors
        self._datas = [mujoco.MjData(self.model) for _ in range(num_worlds)]
        self._arrays = {
            name: np.zeros((num_worlds, *getattr(self._datas[0], name).shape)) for name in _FIELDS
        }
        self._warnings = np.zeros((num_worlds, len(self._datas[0].warning.number)), np.int32)
        self.fields = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        side = None if distractors else window_size(scene, image_size)
        is_cheap = side is not None and side <= _SMALL_WINDOW * image_size
        default = 1 if is_cheap else len(os.sched_getaffinity(0))
        count = min(num_worlds, threads or default)
        bounds = [round(i * num_worlds / count) for i in range(count + 1)]
        self._chunks = [self._chunk(low, high, image_size, side) for low, high in pairwise(bounds)]
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="physics") if count > 1 else None
        self._video_tracers: dict[int, RayTracer] = {}
        self.reset(
            torch.ones(num_worlds, dtype=torch.bool), InitialState.of(self.model, num_worlds)
        )

    @override
    def step(self, control: Float[Tensor, "world actuator"]) -> None:
        rows = control.to(torch.float64).numpy()
        self._each(lambda chunk: chunk.step(rows, self._scene.substeps))
        if self._warnings.any():
            raise SimulationError(self._describe_warnings())

    @override
    def reset(self, mask: Bool[Tensor, " world"], start: InitialState) -> None:
        zeros = torch.zeros(self.num_worlds, dtype=torch.int64)
        parts = (
            start.joint_positions,
            start.joint_velocities,
            start.mocap_positions,
            zeros if start.variants is None else start.variants,
            zeros if start.model_seeds is None else start.model_seeds,
        )
        rows = [tensor.numpy() for tensor in parts]
        chosen = mask.numpy()
        self._each(lambda chunk: chunk.reset(chosen, *rows))

    @override
    def place(
        self, body: str, positions: Float[Tensor, "world 3"], mask: Bool[Tensor, " world"]
    ) -> None:
        mocap = int(self.model.body(body).mocapid[0])
        if mocap < 0:
            raise ValueError(
                f"body {body!r} of {self._scene.name} is not a mocap body and cannot be placed"
            )
        chosen = mask.numpy()
        if chosen.any():
            rows = positions.numpy()
            self._each(lambda chunk: chunk.place(chosen, mocap, rows))

    @override
    def render(
        self, out: UInt8[Tensor, "drawn height width 3"], worlds: Tensor | None = None
    ) -> None:
        pixels = out.numpy()
        listed = np.arange(self.num_worlds) if worlds is None else worlds.numpy()
        self._each(lambda chunk: chunk.draw(listed, pixels))

    @override
    def set_distractors(self, positions: Float[np.ndarray, "world distractor 3"]) -> None:
        expected = (self.num_worlds, self._distractors, 3)
        if positions.shape != expected:
            raise ValueError(
                f"positions must have the shape {expected} of worlds and distractors, "
                f"got {positions.shape}"
            )
        for chunk in self._chunks:
            chunk.distractor_positions[:] = positions[chunk.low : chunk.end]

    @override
    def image(self, world: int, size: int) -> UInt8[np.ndarray, "height width 3"]:
        if size not in self._video_tracers:
            self._video_tracers[size] = self._tracer(size, 1)
        out: np.ndarray = np.empty((1, size, size, 3), np.uint8)
        next(chunk for chunk in self._chunks if world < chunk.end).fill(
            self._video_tracers[size], [world]
        )
        self._video_tracers[size].draw(1, out)
        image: np.ndarray = out[0]
        return image

    def state(self) -> Float[np.ndarray, "world state"]:
        """Return MuJoCo's integration state with the solver's warm start, and the model's choice.

        See `Physics.state`.
        """
        size = mujoco.mj_stateSize(self.model, _STATE)
        columns = self._model_columns()
        out: np.ndarray = np.zeros((self.num_worlds, size + len(columns)))
        for data, row in zip(self._datas, out, strict=True):
            mujoco.mj_getState(self.model, data, row[:size], _STATE)
        for column, name in enumerate(columns, size):
            out[:, column] = np.concatenate([getattr(chunk, name) for chunk in self._chunks])
        return out

    @override
    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        size = mujoco.mj_stateSize(self.model, _STATE)
        columns = self._model_columns()
        expected = (self.num_worlds, size + len(columns))
        if state.shape != expected:
            raise ValueError(
                f"state must have the shape {expected} of these worlds, got {state.shape}"
            )
        chosen = {
            name: state[:, column].astype(np.int64) for column, name in enumerate(columns, size)
        }
        zeros = np.zeros(self.num_worlds, np.int64)
        rows = state[:, :size], chosen.get("variants", zeros), chosen.get("model_seeds", zeros)
        self._each(lambda chunk: chunk.load(*rows))

    @override
    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _model_columns(self) -> list[str]:
        """Return the names of a chunk's attributes that say which model each world has."""
        variants = ["variants"] if len(self._models) > 1 else []
        seeds = ["model_seeds"] if self._scene.remodel is not None else []
        return variants + seeds

    def _chunk(self, low: int, high: int, image_size: int, window: int | None) -> "_Chunk":
        arrays = {name: array[low:high] for name, array in self._arrays.items()}
        return _Chunk(
            self._scene,
            self._models,
            self._datas[low:high],
            low,
            arrays,
            self._warnings[low:high],
            self._tracer(image_size, high - low),
            int(self.model.camera(self._scene.camera).id),
            None if window is None else self._tracer(window, high - low, is_window=True),
        )

    def _tracer(self, size: int, capacity: int, is_window: bool = False) -> RayTracer:
        """Make a ray tracer whose worlds all have the appearance of the first variant."""
        tracer = RayTracer(
            self._scene, size, capacity, distractors=self._distractors, is_window=is_window
        )
        for name in APPEARANCE_FIELDS:
            numbers = getattr(self.model, name).reshape(-1)
            tracer.appearance[name][:, : len(numbers)] = numbers
        return tracer

    def _each(self, work: Callable[["_Chunk"], None]) -> None:
        if self._pool is None:
            work(self._chunks[0])
        else:
            list(self._pool.map(work, self._chunks))

    def _describe_warnings(self) -> str:
        kinds = list(mujoco.mjtWarning.__members__)
        worlds = [
            f"world {world} ({', '.join(kinds[kind] for kind in np.flatnonzero(counts))} at "
            f"{self._datas[world].time:.3f} s, qpos {self._arrays['qpos'][world]})"
            for world, counts in enumerate(self._warnings)
            if counts.any()
        ]
        return f"{self._scene.name} cannot be simulated any further: " + "; ".join(worlds)


class _Chunk:
    """Simulate and draw the worlds of one thread.

    Args:
        scene: the scene of all worlds.
        models: the variants of the scene's model.
        datas: MuJoCo's data of these worlds.
        low: index of the first world.
        arrays: these worlds' rows of the batch.
        warnings: these worlds' rows of MuJoCo's warning counters.
        tracer: draws observations.
        camera: index of the observation's camera.
        window: draws windows of observations, where whole ones need not be drawn at every step.

    Attributes:
        low: index of the first world.
        end: index after that of the last world.
        variants: int64 [world], index of the variant that each world has.
        model_seeds: int64 [world], the seed by which `Scene.remodel` changes each world's model.
        distractor_positions: float64 [world, distractor, 3], in the camera's frame, metres.
    """

    def __init__(
        self,
        scene: Scene,
        models: list[mujoco.MjModel],
        datas: list[mujoco.MjData],
        low: int,
        arrays: dict[str, np.ndarray],
        warnings: np.ndarray,
        tracer: RayTracer,
        camera: int,
        window: RayTracer | None,
    ) -> None:
        self._scene = scene
        self._models = models
        self._datas = datas
        self._tracer = tracer
        self._camera = camera
        self._fixed = (
            None if window is None else FixedCamera(models[0], camera, tracer, window, len(datas))
        )
        self._has_moved_walls = False
        self.low = low
        self.end = low + len(datas)
        self.variants = np.zeros(len(datas), np.int64)
        self.model_seeds = np.zeros(len(datas), np.int64)
        self._own = [models[0]] * len(datas)
        self._terrains: dict[int, Terrain] = {}
        self._uneven = has_terrain(scene)
        self.distractor_positions = np.zeros((len(datas), tracer.distractors, 3))
        self.distractor_positions[..., 2] = OUT_OF_SIGHT
        # The same positions in the world's frame.
        self._distractors = np.zeros_like(self.distractor_positions)
        # Runge-Kutta takes whole steps only.
        self._in_halves = int(models[0].opt.integrator != mujoco.mjtIntegrator.mjINT_RK4)
        # The same models without actuation.
        self._passive = [copy.copy(model) for model in models]
        for passive in self._passive:
            passive.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        self._appearance = {
            name: np.stack([getattr(model, name).reshape(-1) for model in models])
            for name in APPEARANCE_FIELDS
        }
        self._make_views(arrays, warnings)

    def _make_views(self, arrays: dict[str, np.ndarray], warnings: np.ndarray) -> None:
        """Make views into every MjData once, because making one costs more than copying it."""
        datas = self._datas
        self._controls = [data.ctrl for data in datas]
        self._poses = {
            name: [[getattr(data, name).reshape(-1)] for data in datas] for name in POSES
        }
        # The ray tracer's model has distractors' spheres after the geoms that are simulated.
        unturned = np.tile(np.eye(3).reshape(-1), self._tracer.distractors)
        for positions, rotations, placed in zip(
            self._poses["geom_xpos"], self._poses["geom_xmat"], self._distractors, strict=True
        ):
            positions.append(placed.reshape(-1))
            rotations.append(unturned)
        self._gathered = [
            ([getattr(data, name).reshape(-1) for data in datas], array.reshape(-1))
            for name, array in arrays.items()
        ]
        self._gathered.append(([data.warning.number for data in datas], warnings.reshape(-1)))

    def step(self, controls: np.ndarray, substeps: int) -> None:
        worlds = zip(self._own, self._datas, self._controls, controls[self.low :], strict=False)
        for model, data, view, control in worlds:
            view[:] = control
            if self._in_halves:
                mujoco.mj_step2(model, data)
            if substeps > self._in_halves:
                mujoco.mj_step(model, data, substeps - self._in_halves)
            mujoco.mj_step1(model, data)
        self._gather()

    def reset(
        self,
        mask: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray,
        mocap: np.ndarray,
        variants: np.ndarray,
        model_seeds: np.ndarray,
    ) -> None:
        for world, data in enumerate(self._datas, self.low):
            if mask[world]:
                model = self._set_model(world - self.low, variants[world], model_seeds[world])
                mujoco.mj_resetData(model, data)
                data.qpos[:] = positions[world]
                data.qvel[:] = velocities[world]
                data.mocap_pos[:] = mocap[world]
                self._forward(model, variants[world], data)
        # Mazes have dozens of walls, whose places differ between episodes.
        self._has_moved_walls = self._datas[0].mocap_pos.shape[0] > _FEW_MOCAP_BODIES
        self._gather()

    def place(self, mask: np.ndarray, mocap: int, positions: np.ndarray) -> None:
        for world, data in enumerate(self._datas, self.low):
            if mask[world]:
                data.mocap_pos[mocap] = positions[world]
                # As at the end of a step: contacts and images depend on it.
                mujoco.mj_step1(self._own[world - self.low], data)
        self._gather()

    def load(self, state: np.ndarray, variants: np.ndarray, model_seeds: np.ndarray) -> None:
        for world, data in enumerate(self._datas, self.low):
            model = self._set_model(world - self.low, variants[world], model_seeds[world])
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, state[world], _STATE)
            # This computes what the next `mj_step2` reads besides the state.
            mujoco.mj_step1(model, data)
        self._gather()

    def draw(self, listed: np.ndarray, out: np.ndarray) -> None:
        rows = np.flatnonzero((listed >= self.low) & (listed < self.end))
        if not len(rows):
            return
        # The rows of a chunk are contiguous because `listed` is in ascending order.
        images = out[rows[0] : rows[-1] + 1]
        worlds = listed[rows].tolist()
        if self._fixed is not None:
            fixed_worlds = [world - self.low for world in worlds]
            self._fixed.draw(self._fill_own, fixed_worlds, self.variants, images)
            return
        self.fill(self._tracer, worlds)
        if self._has_moved_walls:
            self._tracer.rebuild(len(worlds))
            self._has_moved_walls = False
        self._tracer.draw(len(worlds), images)

    def fill(self, tracer: RayTracer, listed: list[int]) -> None:
        """Copy the poses and the appearance of some of these worlds into a ray tracer."""
        self._fill_own(tracer, [world - self.low for world in listed])

    def _fill_own(self, tracer: RayTracer, worlds: list[int]) -> None:
        """Do the same for worlds that are numbered within this chunk."""
        if tracer.distractors:
            for world in worlds:
                data = self._datas[world]
                turn = data.cam_xmat[self._camera].reshape(3, 3)
                self._distractors[world] = (
                    data.cam_xpos[self._camera] + self.distractor_positions[world] @ turn.T
                )
        for name, views in self._poses.items():
            target = tracer.poses[name][: len(worlds)].reshape(-1)
            np.concatenate(
                [part for world in worlds for part in views[world]], out=target, casting="same_kind"
            )
        if len(self._models) > 1:
            for name, numbers in self._appearance.items():
                chosen = numbers[self.variants[worlds]]
                tracer.appearance[name][: len(worlds), : numbers.shape[1]] = chosen
        for row, world in enumerate(worlds if self._uneven else []):
            tracer.terrains[row] = self._terrain(world).id

    def _set_model(self, world: int, variant: int, seed: int) -> mujoco.MjModel:
        """Give one of these worlds another model and return it."""
        model = self._scene.remodelled(self._models[variant], int(seed))
        self._own[world] = model
        self.variants[world] = variant
        self.model_seeds[world] = seed
        return model

    def _forward(self, model: mujoco.MjModel, variant: int, data: mujoco.MjData) -> None:
        """Compute the derived quantities of a new state, without actuation, as dm_control does."""
        if model is self._models[variant]:  # other threads read it: it must not change
            mujoco.mj_forward(self._passive[variant], data)
            return
        flags = int(model.opt.disableflags)
        model.opt.disableflags = flags | mujoco.mjtDisableBit.mjDSBL_ACTUATION
        mujoco.mj_forward(model, data)
        model.opt.disableflags = flags

    def _terrain(self, world: int) -> Terrain:
        """Return the mesh that is drawn in place of a world's height field."""
        if world not in self._terrains:
            self._terrains[world] = Terrain(self._own[world])
        terrain = self._terrains[world]
        if terrain.model is not self._own[world]:
            terrain.update(self._own[world])
        return terrain

    def _gather(self) -> None:
        for views, target in self._gathered:
            np.concatenate(views, out=target)
