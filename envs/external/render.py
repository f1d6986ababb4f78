"""Images of an external environment: by our ray tracer from its MuJoCo model, or as the environment
draws itself.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium
import mujoco
import numpy as np
import torch
from jaxtyping import UInt8

from envs.external.camera import CameraView
from envs.external.mujoco_scene import DrawnModel, colours, shapes

State = tuple[mujoco.MjModel, mujoco.MjData]

# Ray tracers that a process keeps: each holds a scene's textures, up to tens of megabytes.
_KEPT = 24
_gallery: OrderedDict[tuple[bytes, bytes, int, float], DrawnModel] = OrderedDict()


class Renderer(Protocol):
    """Draws the present state of one environment."""

    def begin(self) -> None:
        """An episode has begun: what it looks like may have changed."""

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """Draw into `out`, which says how large."""


class RayTraced:
    """Drawn from the environment's own model and data, without OpenGL.

    Environments that look alike share a ray tracer.
    """

    def __init__(
        self,
        state: Callable[[], State],
        view: CameraView,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Draw what `state()` returns, seen from `view`.

        Args:
            state: the present model and data; asked for at every image, because some environments
                replace them.
            prepare: called before an image is drawn; what the environment's own renderer does
                before one.
        """
        self._state, self._view, self._prepare = state, view, prepare
        self._model: mujoco.MjModel | None = None
        self._shapes = b""
        self._colours = b""

    def begin(self) -> None:
        """See `Renderer.begin`."""
        model, _ = self._state()
        if model is not self._model:
            self._model, self._shapes = model, shapes(model)
        self._colours = colours(model)

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """See `Renderer.draw`."""
        if self._prepare is not None:
            self._prepare()
        model, data = self._state()
        self._drawn(model, data, len(out)).draw(data, self._view.pose(model, data), out)

    def _drawn(self, model: mujoco.MjModel, data: mujoco.MjData, size: int) -> DrawnModel:
        key = (self._shapes, self._colours, size, self._view.fovy(model))
        if key not in _gallery:
            _gallery[key] = DrawnModel(model, data, size, key[3])
        _gallery.move_to_end(key)
        while len(_gallery) > _KEPT:
            _gallery.popitem(last=False)
        return _gallery[key]


class SelfDrawn:
    """What the environment's `render` returns, brought to the size that is asked for by averaging
    over areas.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], upside_down: bool = False) -> None:
        """Ask `env`, made with `render_mode="rgb_array"`; `upside_down` turns its images by half a
        turn.
        """
        self._env, self._upside_down = env, upside_down

    def begin(self) -> None:
        """See `Renderer.begin`."""

    def draw(self, out: UInt8[np.ndarray, "size size 3"]) -> None:
        """See `Renderer.draw`. Raises ValueError where the environment gives no RGB image."""
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
    """An image as a square of another size, every pixel the mean of the area that it covers."""
    if image.shape[:2] == (size, size):
        return image
    planes = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    squares = torch.nn.functional.interpolate(planes, (size, size), mode="area")[0].permute(1, 2, 0)
    return np.asarray(squares.round().to(torch.uint8).numpy())
