"""What a task may know of a simulator: many worlds of one MuJoCo model, their state as batched
torch tensors.

A task reads quantities by name and writes start states; whether the worlds are stepped by MuJoCo C
on threads or by a GPU backend is not visible to it. What differs between worlds (a target, a wall)
is a mocap body, because geoms fixed to the world are placed only once.
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
    """One MuJoCo model, how often it is controlled and how it is filmed.

    Attributes:
        name: for messages.
        build: describes the model.
        substeps: physics steps in a control step.
        camera: name of the camera that films the observation.
        background: red, green and blue in [0, 1] where nothing is drawn.
        textures: False draws plain colours, which is faster.
        finish: changes of the compiled model that a description cannot express.
        remodel: changes numbers of a world's own copy of the model for the length of an episode,
            such as the heights of its terrain; its second argument is all that they depend on.
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
        """The compiled model, for reading: every simulator copies it."""
        model = self.build().compile()
        if self.finish is not None:
            self.finish(model)
        return model

    def remodelled(self, model: mujoco.MjModel, seed: int) -> mujoco.MjModel:
        """A copy of one of the scene's models as it is in an episode with this seed; itself where
        that is 0.
        """
        if self.remodel is None or not seed:
            return model
        own = copy.copy(model)
        self.remodel(own, seed)
        return own


@dataclass
class InitialState:
    """Start states of all worlds, float64: where a partial reset does not touch a world its row is
    ignored.

    Attributes:
        joint_positions: [world, nq], metres and radians.
        joint_velocities: [world, nv].
        mocap_positions: [world, mocap body, 3], metres.
        variants: int64 [world], which of the simulator's variants of the dynamics each world
            follows; None: the first.
        model_seeds: int64 [world], what `Scene.remodel` is given; 0, or None for all worlds: the
            model stays as it is.
    """

    joint_positions: Tensor
    joint_velocities: Tensor
    mocap_positions: Tensor
    variants: Tensor | None = None
    model_seeds: Tensor | None = None

    @classmethod
    def of(cls, model: mujoco.MjModel, num_worlds: int) -> "InitialState":
        """The model's own initial state, `num_worlds` times."""
        mocap = model.body_pos[model.body_mocapid >= 0]
        rows = [
            torch.from_numpy(np.array(row, np.float64))
            for row in (model.qpos0, np.zeros(model.nv), mocap)
        ]
        return cls(*(row.expand(num_worlds, *row.shape).clone() for row in rows))


class Physics(ABC):
    """Many worlds of one model.

    Attributes:
        model: the MuJoCo model, for names and constants.
        num_worlds: number of worlds, the first axis of every tensor.
        fields: batched float64 state by MuJoCo's field name (`qpos`, `qvel`, `ctrl`, `xpos`,
            `xmat`, `geom_xpos`, `mocap_pos`, `sensordata`), each [world, ...], refreshed by `step`,
            `reset` and `load_state`.
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
        """Put the worlds in `mask` into their start states; the others are left as they are."""

    @abstractmethod
    def place(
        self, body: str, positions: Float[Tensor, "world 3"], mask: Bool[Tensor, " world"]
    ) -> None:
        """Put a mocap body somewhere else, metres, in the worlds in `mask`: what a task changes
        within an episode.

        Where mocap bodies are belongs to `state` and is set by `reset`, so this is also how a task
        remembers.

        Raises:
            ValueError: `body` is not a mocap body.
        """

    @abstractmethod
    def render(
        self, out: UInt8[Tensor, "drawn height width 3"], worlds: Tensor | None = None
    ) -> None:
        """Draw the observation camera's image of all worlds, or of the listed ones (int64), into
        `out`.
        """

    @abstractmethod
    def set_distractors(self, places: Float[np.ndarray, "world distractor 3"]) -> None:
        """Where distractors are in the next images: right of the camera, above and behind it,
        metres.

        Raises:
            ValueError: there are not as many worlds or distractors.
        """

    @abstractmethod
    def image(self, world: int, size: int) -> UInt8[np.ndarray, "height width 3"]:
        """One world drawn at another size, for videos."""

    @abstractmethod
    def state(self) -> Float[np.ndarray, "world state"]:
        """Everything that the future of each world depends on."""

    @abstractmethod
    def load_state(self, state: Float[np.ndarray, "world state"]) -> None:
        """Continue from what `state` returned, bit for bit. Raises ValueError when the shape does
        not fit.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back threads and memory."""

    @property
    def control(self) -> Float[Tensor, "world actuator"]:
        """The control signal of the latest step."""
        return self.fields["ctrl"]

    def body_position(self, name: str) -> Float[Tensor, "world 3"]:
        """Position of a body's frame, metres. Raises KeyError naming the bodies there are."""
        return self.fields["xpos"][:, self._index("body", name)]

    def body_rotation(self, name: str) -> Float[Tensor, "world 3 3"]:
        """Rotation matrix of a body's frame: columns are its axes in the world."""
        return self.fields["xmat"][:, self._index("body", name)].reshape(-1, 3, 3)

    def geom_position(self, name: str) -> Float[Tensor, "world 3"]:
        """Position of a geom, metres."""
        return self.fields["geom_xpos"][:, self._index("geom", name)]

    def sensor(self, name: str) -> Float[Tensor, "world reading"]:
        """Readings of a sensor, in its own units."""
        index = self._index("sensor", name)
        address, size = int(self.model.sensor_adr[index]), int(self.model.sensor_dim[index])
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
    """A world's state is not finite or MuJoCo warned about it: the run must stop, its numbers mean
    nothing.
    """
