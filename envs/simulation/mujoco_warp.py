"""Simulate with MuJoCo Warp: all worlds at once in captured graphs, on a GPU or the CPU device."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import mujoco
import mujoco_warp
import numpy as np
import torch
import warp
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from typing_extensions import override

from envs.simulation.physics import InitialState, Physics, Scene, SimulationError
from envs.simulation.renderer import (
    APPEARANCE_FIELDS,
    COMPILING_AFTER_SECONDS,
    POSES,
    announce_compilation,
)
from envs.simulation.warp_camera import FrameStack, WarpCamera
from envs.simulation.warp_device import check_device, check_memory
from envs.simulation.warp_faults import COUNTED, FaultReader, fault_names
from envs.simulation.warp_graph import WarpGraph
from envs.simulation.warp_kernels import note_faults
from envs.simulation.warp_model import (
    capacity,
    put_variants,
    why_not_warp,
    world_bytes,
    write_rows,
)

# Fields of Warp's Data that tasks read, which share its memory.
_FIELDS = ("qpos", "qvel", "act", "ctrl", "xpos", "xmat", "geom_xpos", "mocap_pos", "sensordata")
# What the future depends on, in the order of the columns of `state`.
_STATE = ("time", "qpos", "qvel", "act", "ctrl", "qacc_warmstart", "mocap_pos")
# Of these a new episode begins with zeros.
_ZERO_AT_START = ("time", "act", "ctrl", "qacc_warmstart")


class WarpPhysics(Physics):
    """Step, reset and draw all worlds on one device, in single precision.

    A control step is dm_control's: `step2`, `step` n-1 times, `step1`; with Runge-Kutta `step` n
    times, `step1`. It is one replay of a captured graph and one of `step1`, as `MujocoPhysics` has
    it, but for rounding: MuJoCo Warp computes in float32, and `fields` are float32 too, on the
    device. Readings of sensors of the acceleration stage are those of the last physics step, which
    MuJoCo Warp's `step1` would clear.

    Non-finite states and full buffers of contacts or constraints are noted on the device and raise
    `SimulationError`: on the CPU device from the step in which they occur, on a GPU, which is not
    made to wait, from a later `step`, or from `state`.

    Args:
        scene: model, camera and control rate.
        num_worlds: number of worlds.
        image_size: height and width of the observation in pixels.
        device: "cpu", "cuda" or "cuda:NUMBER".
        variants: see `MujocoPhysics`.
        distractors: see `MujocoPhysics`.

    Raises:
        ValueError: MuJoCo Warp cannot simulate the scene, cannot use the device, or the worlds do
            not fit into its memory; the message names what would work.
    """

    def __init__(
        self,
        scene: Scene,
        num_worlds: int,
        image_size: int,
        device: str = "cpu",
        variants: Sequence[mujoco.MjModel] = (),
        distractors: int = 0,
    ) -> None:
        refuse_scene(scene)
        self.device = check_device(device)
        self._device = str(self.device)
        models = list(variants) or [scene.model]
        self.model = models[0]
        self.num_worlds = num_worlds
        self._scene = scene
        self._distractors = distractors
        size = world_bytes(self.model, image_size)
        check_memory(self.device, num_worlds, size, f"scene {scene.name!r}")
        with announce_compilation(COMPILING_AFTER_SECONDS, "the simulator and the ray tracer"):
            with warp.ScopedDevice(self._device):
                self._make(models)
            self._colours = {
                name: torch.stack([torch.from_numpy(getattr(model, name)) for model in models])
                for name in APPEARANCE_FIELDS
            }
            poses = {name: getattr(self._data, name) for name in POSES}
            self._camera = self._make_camera(image_size, num_worlds, poses)
            self._advance = WarpGraph(self._device, self._launch_control_step)
            self._sense = WarpGraph(self._device, self._launch_sensing)
        self._variants = torch.zeros(num_worlds, dtype=torch.int64, device=self.device)
        self._video_cameras: dict[int, tuple[WarpCamera, dict[str, Tensor]]] = {}
        # Capturing has moved the worlds.
        self._faults.zero_()
        everywhere = torch.ones(num_worlds, dtype=torch.bool)
        self.reset(everywhere, InitialState.of(self.model, num_worlds))

    @override
    def step(self, control: Float[Tensor, "world actuator"]) -> None:
        self.fields["ctrl"].copy_(control)
        self._advance.replay()
        self._refresh(self._accelerations())
        if self._reader.found():
            self._raise_faults()

    @override
    def reset(self, mask: Bool[Tensor, " world"], start: InitialState) -> None:
        chosen = self.upload(mask)
        if start.variants is not None and self._per_world:
            self._choose(chosen, self.upload(start.variants))
        for name in _ZERO_AT_START:
            write_rows(self._rows[name], chosen, torch.zeros_like(self._rows[name]))
        for name, rows in (
            ("qpos", start.joint_positions),
            ("qvel", start.joint_velocities),
            ("mocap_pos", start.mocap_positions),
        ):
            write_rows(self._rows[name], chosen, self.upload(rows.flatten(1).float()))
        before = self._accelerations()
        if len(self._acceleration_columns):
            # As dm_control does, their first readings are without actuation.
            self._passive.replay()
            write_rows(before, chosen, self._accelerations())
        self._refresh(before)

    @override
    def place(
        self, body: str, positions: Float[Tensor, "world 3"], mask: Bool[Tensor, " world"]
    ) -> None:
        mocap = int(self.model.body(body).mocapid[0])
        if mocap < 0:
            raise ValueError(
                f"body {body!r} of {self._scene.name} is not a mocap body and cannot be placed"
            )
        if self._is_known_empty(mask):
            return
        write_rows(self.fields["mocap_pos"][:, mocap], mask, positions)
        self._refresh(self._accelerations())

    @override
    def render(
        self, out: UInt8[Tensor, "drawn height width 3"], worlds: Tensor | None = None
    ) -> None:
        images = self._camera.draw()
        out.copy_(images if worlds is None else images[worlds.to(self.device)])

    def frame_stack(self, frames: int) -> FrameStack:
        """Return the memory of every world's last images, which is written where it is drawn."""
        return FrameStack(self._camera, frames)

    @override
    def set_distractors(self, positions: Float[np.ndarray, "world distractor 3"]) -> None:
        expected = (self.num_worlds, self._distractors, 3)
        if positions.shape != expected:
            raise ValueError(
                f"positions must have the shape {expected} of worlds and distractors, "
                f"got {positions.shape}"
            )
        self._camera.distractors.copy_(self.upload(torch.from_numpy(positions)))

    @override
    def image(self, world: int, size: int) -> UInt8[np.ndarray, "height width 3"]:
        if size not in self._video_cameras:
            self._video_cameras[size] = self._make_video_camera(size)
        camera, poses = self._video_cameras[size]
        row = slice(world, world + 1)
        for name, pose in poses.items():
            pose.copy_(self._poses[name][row])
        camera.distractors.copy_(self._camera.distractors[row])
        variants = self._variants[row]
        camera.choose_colours(torch.ones_like(variants, dtype=torch.bool), variants)
        image: np.ndarray = camera.draw()[0].cpu().numpy().copy()
        return image

    def state(self) -> Float[np.ndarray, "world state"]:
        """Return MuJoCo's state, the solver's warm start, accelerations and the model's choice.

        See `Physics.state`.

        Raises:
            SimulationError: a world has left the range in which it can be simulated.
        """
        if bool(self._faults.any()):
            self._raise_faults()
        parts = [*(self._rows[name] for name in _STATE), self._accelerations()]
        if self._per_world:
            parts.append(self._variants[:, None])
        state: np.ndarray = torch.cat([part.double() for part in parts], 1).cpu().numpy()
        return state

    @override
    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        sizes = [self._rows[name].shape[1] for name in _STATE]
        sizes += [len(self._acceleration_columns)] + [1] * bool(self._per_world)
        expected = (self.num_worlds, sum(sizes))
        if state.shape != expected:
            raise ValueError(
                f"state must have the shape {expected} of these worlds, got {state.shape}"
            )
        parts = self.upload(torch.from_numpy(state)).split(sizes, 1)
        for name, part in zip(_STATE, parts, strict=False):
            self._rows[name].copy_(part)
        if self._per_world:
            everywhere = torch.ones_like(self._variants, dtype=torch.bool)
            self._choose(everywhere, parts[-1][:, 0].long())
        self._refresh(parts[len(_STATE)].float())

    @override
    def close(self) -> None:
        self._video_cameras.clear()

    def upload(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device, without waiting for it."""
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    # Private methods.

    def _make(self, models: list[mujoco.MjModel]) -> None:
        """Put the models and the worlds on Warp's current device."""
        self._warp_model, self._per_world = put_variants(models, self.num_worlds)
        self._contacts, self._constraints = capacity(self.model)
        self._data = mujoco_warp.make_data(
            self.model, self.num_worlds, nconmax=self._contacts, njmax=self._constraints
        )
        tensors = {name: warp.to_torch(getattr(self._data, name)) for name in {*_FIELDS, *_STATE}}
        self.fields = {
            name: tensor.flatten(2) if name == "xmat" else tensor
            for name, tensor in tensors.items()
            if name in _FIELDS
        }
        self._poses = {name: warp.to_torch(getattr(self._data, name)) for name in POSES}
        self._rows = {name: tensors[name].reshape(self.num_worlds, -1) for name in _STATE}
        faults = warp.zeros(self.num_worlds, dtype=int)
        self._fault_array = faults
        self._faults: Tensor = warp.to_torch(faults)
        self._reader = FaultReader(self._faults)
        stage = self.model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        columns = [
            np.arange(address, address + size)
            for address, size in zip(
                self.model.sensor_adr[stage], self.model.sensor_dim[stage], strict=True
            )
        ]
        self._acceleration_columns = torch.from_numpy(
            np.concatenate([*columns, np.zeros(0, np.int64)]).astype(np.int64)
        ).to(self.device)
        self._in_halves = self.model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4
        if len(self._acceleration_columns):
            self._passive = WarpGraph(self._device, self._launch_passive_forward)

    def _make_camera(self, size: int, num_worlds: int, poses: Mapping[str, Any]) -> WarpCamera:
        return WarpCamera(
            self._scene,
            size,
            num_worlds,
            poses,
            self._colours,
            self._distractors,
            self._device,
        )

    def _make_video_camera(self, size: int) -> tuple[WarpCamera, dict[str, Tensor]]:
        """Return a camera of one world, and the memory that gets the poses of the drawn one."""
        with warp.ScopedDevice(self._device):
            poses = {
                name: warp.zeros((1, array.shape[1]), dtype=array.dtype)
                for name, array in ((name, getattr(self._data, name)) for name in POSES)
            }
        tensors = {name: warp.to_torch(array) for name, array in poses.items()}
        return self._make_camera(size, 1, poses), tensors

    def _launch_control_step(self) -> None:
        if self._in_halves:
            mujoco_warp.step2(self._warp_model, self._data)
        for _ in range(self._scene.substeps - int(self._in_halves)):
            mujoco_warp.step(self._warp_model, self._data)
        warp.launch(
            note_faults,
            dim=self.num_worlds,
            inputs=[self._data.qpos, self._data.qvel, self._data.ctrl, COUNTED],
            outputs=[self._data.overflow, self._fault_array],
        )

    def _launch_sensing(self) -> None:
        mujoco_warp.step1(self._warp_model, self._data)

    def _launch_passive_forward(self) -> None:
        options = self._warp_model.opt
        flags = options.disableflags
        options.disableflags = flags | int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        mujoco_warp.forward(self._warp_model, self._data)
        options.disableflags = flags

    def _accelerations(self) -> Float[Tensor, "world reading"]:
        """Return a copy of the readings of sensors of the acceleration stage."""
        return self.fields["sensordata"].index_select(1, self._acceleration_columns)

    def _is_known_empty(self, mask: Bool[Tensor, " world"]) -> bool:
        """Return whether a mask selects no world; False on a GPU, which is not waited for."""
        return self.device.type == "cpu" and not mask.any()

    def _refresh(self, accelerations: Float[Tensor, "world reading"]) -> None:
        """Compute what belongs to the present positions and velocities, and keep these readings."""
        self._sense.replay()
        if len(self._acceleration_columns):
            self.fields["sensordata"].index_copy_(1, self._acceleration_columns, accelerations)

    def _choose(self, mask: Bool[Tensor, " world"], variants: Tensor) -> None:
        write_rows(self._variants, mask, variants)
        for own in self._per_world:
            own.choose(mask, self._variants)
        self._camera.choose_colours(mask, self._variants)

    def _raise_faults(self) -> NoReturn:
        """Report all faults once, so that a reset may follow."""
        faults = self._faults.cpu().tolist()
        self._faults.zero_()
        worlds = [
            f"world {world} ({', '.join(fault_names(bits))})"
            for world, bits in enumerate(faults)
            if bits
        ]
        shown = "; ".join(worlds[:8]) + (f" and {len(worlds) - 8} more" if worlds[8:] else "")
        raise SimulationError(
            f"{self._scene.name} cannot be simulated any further with physics=warp: {shown}. There "
            f"is room for {self._contacts} contacts and {self._constraints} constraints a world; "
            "physics=mujoco has no such limit"
        )


def refuse_scene(scene: Scene) -> None:
    """Raise ValueError where MuJoCo Warp cannot simulate a scene, with the backend that can."""
    reason = why_not_warp(scene)
    if reason is not None:
        raise ValueError(
            f"physics=warp cannot simulate scene {scene.name!r}: {reason}; physics=mujoco can"
        )
