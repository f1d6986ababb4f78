"""Define the simulator's interface: many worlds of one MuJoCo model, with batched torch tensors.

A task reads quantities by name and writes initial states. It does not depend on whether MuJoCo C
on threads or a GPU backend steps the worlds. Objects that differ between worlds (a target, a wall)
are mocap bodies, because geoms fixed to the world are placed only once.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """Describe one MuJoCo model, its control rate and its camera.

    Attributes:
        name: for messages.
        build: returns the model's description.
        substeps: physics steps in a control step.
        camera: name of the observation's camera.
        background: red, green and blue in [0, 1] where nothing is drawn.
        textures: False draws plain colours, which is faster.
        finish: makes changes to the compiled model that a description cannot express.
        remodel: changes numbers of a world's own copy of the model for one episode, such as the
            heights of its terrain; they depend on its second argument, a seed, alone.
    """

    name: str
    build: Callable[[], mujoco.MjSpec]
    substeps: int
    camera: str
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    textures: bool = True
    finish: Callable[[mujoco.MjModel], None] | None = None
    remodel: Callable[[mujoco.MjModel, int], None] | None = None

    @cached_property
    def model(self) -> mujoco.MjModel:
        """Return the compiled model, only for reading: every simulator copies it."""
        model = self.build().compile()
        if self.finish is not None:
            self.finish(model)
        return model

    def remodelled(self, model: mujoco.MjModel, seed: int) -> mujoco.MjModel:
        """Return a copy of a model as it is in an episode with this seed, or itself for seed 0."""
        if self.remodel is None or not seed:
            return model
        own = copy.copy(model)
        self.remodel(own, seed)
        return own


@dataclass
class InitialState:
    """Hold the initial states of all worlds, float64.

    A partial reset ignores the rows of the other worlds.

    Attributes:
        joint_positions: [world, nq], metres and radians.
        joint_velocities: [world, nv].
        mocap_positions: [world, mocap body, 3], metres.
        variants: int64 [world], index of the simulator's variant that each world gets; None is the
            first for all.
        model_seeds: int64 [world], the seed for `Scene.remodel`; 0, or None for all worlds, leaves
            the model unchanged.
    """

    joint_positions: Tensor
    joint_velocities: Tensor
    mocap_positions: Tensor
    variants: Tensor | None = None
    model_seeds: Tensor | None = None

    @classmethod
    def of(cls, model: mujoco.MjModel, num_worlds: int) -> "InitialState":
        """Return the model's own initial state, `num_worlds` times."""
        mocap = model.body_pos[model.body_mocapid >= 0]
        rows = [
            torch.from_numpy(np.array(row, np.float64))
            for row in (model.qpos0, np.zeros(model.nv), mocap)
        ]
        return cls(*(row.expand(num_worlds, *row.shape).clone() for row in rows))


class Physics(ABC):
    """Simulate many worlds of one model.

    Attributes:
        model: the MuJoCo model, for names and constants.
        num_worlds: number of worlds, the first axis of every tensor.
        fields: batched float64 state by MuJoCo's field name (`qpos`, `qvel`, `act`, `ctrl`,
            `xpos`, `xmat`, `geom_xpos`, `mocap_pos`, `sensordata`), each [world, ...], refreshed by
            `step`, `reset` and `load_state`.
    """

    model: mujoco.MjModel
    num_worlds: int
    fields: dict[str, Tensor]

    @abstractmethod
    def step(self, control: Float[Tensor, "world actuator"]) -> None:
        """Advance every world by one control step under `control`, in actuator units.

        Raises:
            SimulationError: a world has left the range in which it can be simulated; the message
                names it.
        """

    @abstractmethod
    def reset(self, mask: Bool[Tensor, " world"], start: InitialState) -> None:
        """Put the worlds in `mask` into their initial states and leave the others unchanged."""

    @abstractmethod
    def place(
        self, body: str, positions: Float[Tensor, "world 3"], mask: Bool[Tensor, " world"]
    ) -> None:
        """Move a mocap body, in the worlds in `mask`, within an episode.

        The positions of mocap bodies belong to `state` and are set by `reset`, so that a task can
        also store its own state in them.

        Args:
            body: the body's name.
            positions: metres.
            mask: the worlds in which it moves.

        Raises:
            ValueError: `body` is not a mocap body.
        """

    @abstractmethod
    def render(
        self, out: UInt8[Tensor, "drawn height width 3"], worlds: Tensor | None = None
    ) -> None:
        """Draw the observation of all worlds, or of the listed ones (int64), into `out`."""

    @abstractmethod
    def set_distractors(self, positions: Float[np.ndarray, "world distractor 3"]) -> None:
        """Set the distractors' positions in the next images.

        Args:
            positions: in the camera's frame (right, up, backwards), metres.

        Raises:
            ValueError: the number of worlds or distractors is not that of this simulator.
        """

    @abstractmethod
    def image(self, world: int, size: int) -> UInt8[np.ndarray, "height width 3"]:
        """Draw one world at another size, for videos."""

    @abstractmethod
    def state(self) -> Float[np.ndarray, "world state"]:
        """Return everything that the future of each world depends on."""

    @abstractmethod
    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        """Continue from what `state` returned, bit for bit.

        Raises:
            ValueError: the shape is not that of these worlds' state.
        """

    @abstractmethod
    def close(self) -> None:
        """Release threads and memory."""

    @property
    def control(self) -> Float[Tensor, "world actuator"]:
        """Return the control signal of the latest step."""
        return self.fields["ctrl"]

    def body_position(self, name: str) -> Float[Tensor, "world 3"]:
        """Return the position of a body's frame, metres.

        Raises:
            KeyError: there is no such body; the message names the bodies.
        """
        return self.fields["xpos"][:, self._index("body", name)]

    def body_rotation(self, name: str) -> Float[Tensor, "world 3 3"]:
        """Return the rotation matrix of a body's frame: its columns are the frame's axes."""
        return self.fields["xmat"][:, self._index("body", name)].reshape(-1, 3, 3)

    def geom_position(self, name: str) -> Float[Tensor, "world 3"]:
        """Return the position of a geom, metres."""
        return self.fields["geom_xpos"][:, self._index("geom", name)]

    def sensor(self, name: str) -> Float[Tensor, "world reading"]:
        """Return the readings of a sensor, in its own units."""
        index = self._index("sensor", name)
        address = int(self.model.sensor_adr[index])
        size = int(self.model.sensor_dim[index])
        return self.fields["sensordata"][:, address : address + size]

    def _index(self, kind: str, name: str) -> int:
        key = (kind, name)
        if key not in self._indices:
            self._indices[key] = int(getattr(self.model, kind)(name).id)
        return self._indices[key]

    @cached_property
    def _indices(self) -> dict[tuple[str, str], int]:
        return {}


class SimulationError(FloatingPointError):
    """Report a world whose state is not finite or that MuJoCo warned about.

    The run must stop, because its numbers are meaningless.
    """
