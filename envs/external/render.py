"""Draw an external environment: with our ray tracer, or with the environment's own renderer."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import mujoco
import numpy as np
import torch
from jaxtyping import UInt8
from typing_extensions import override

from envs.external.camera import CameraView
from envs.external.mujoco_scene import DrawnModel, appearance_digest, shape_digest

State = tuple[mujoco.MjModel, mujoco.MjData]

# Ray tracers that a process keeps: each holds a scene's textures, up to tens of megabytes.
_KEPT = 24
_drawn_models: OrderedDict[tuple[bytes, bytes, int, float], DrawnModel] = OrderedDict()


class ExternalRenderer(Protocol):
    """Draw the present state of one environment."""

    def begin(self) -> None:
        """Take note that an episode has begun: its appearance may have changed."""

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """Draw into `out`, whose shape says how large."""


class RayTracedRenderer(ExternalRenderer):
    """Draw from the environment's own MuJoCo model and data, without OpenGL.

    Environments that look alike share a ray tracer.

    Args:
        state: returns the present model and data; called for every image, because some
            environments replace them.
        view: the camera.
        prepare: called before an image is drawn; what the environment's own renderer does before
            one.
    """

    def __init__(
        self,
        state: Callable[[], State],
        view: CameraView,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._state = state
        self._view = view
        self._prepare = prepare
        self._model: mujoco.MjModel | None = None
        self._shape = b""
        self._appearance = b""

    @override
    def begin(self) -> None:
        model, _ = self._state()
        if model is not self._model:
            self._model = model
            self._shape = shape_digest(model)
        self._appearance = appearance_digest(model)

    @override
    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        if self._prepare is not None:
            self._prepare()
        model, data = self._state()
        drawn = self._drawn_model(model, data, len(out))
        drawn.draw(data, self._view.pose(model, data), out)

    def _drawn_model(self, model: mujoco.MjModel, data: mujoco.MjData, size: int) -> DrawnModel:
        key = (self._shape, self._appearance, size, self._view.fovy(model))
        if key not in _drawn_models:
            _drawn_models[key] = DrawnModel(model, data, size, key[3])
        _drawn_models.move_to_end(key)
        while len(_drawn_models) > _KEPT:
            _drawn_models.popitem(last=False)
        return _drawn_models[key]


class OwnRenderer(ExternalRenderer):
    """Take what the environment's `render` returns, resized by averaging over areas.

    Args:
        env: an environment made with `render_mode="rgb_array"`.
        upside_down: turns its images by half a turn.

    Raises:
        ValueError: from `draw`, where the environment gives no RGB image.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], upside_down: bool = False) -> None:
        self._env = env
        self._upside_down = upside_down

    @override
    def begin(self) -> None:
        pass

    @override
    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        image: Any = self._env.render()
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"render() must give an RGB image [height, width, 3], got {type(image).__name__}"
            )
        if image.dtype != np.uint8:
            raise ValueError(f"render() must give uint8 pixels, got {image.dtype}")
        out[:] = resize(image[::-1, ::-1] if self._upside_down else image, len(out))


def resize(
    image: UInt8[np.ndarray, "height width 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Return an image as a square of another size, every pixel the mean of the area it covers."""
    if image.shape[:2] == (size, size):
        return image
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    squares = torch.nn.functional.interpolate(planes, (size, size), mode="area")[0].permute(1, 2, 0)
    return np.asarray(squares.round().to(torch.uint8).numpy())
