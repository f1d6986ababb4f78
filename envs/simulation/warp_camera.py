"""Draw images of worlds on the device that simulates them, in one captured graph."""

from collections.abc import Mapping
from typing import Any

import mujoco_warp
import torch
import warp
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from envs.simulation.distractors import OUT_OF_SIGHT, with_distractors
from envs.simulation.physics import Scene
from envs.simulation.renderer import APPEARANCE_FIELDS, POSES, drawable, render_context
from envs.simulation.warp_graph import WarpGraph
from envs.simulation.warp_kernels import fill_frames, place_geoms, push_frame, unpack_pixels
from envs.simulation.warp_model import PerWorld


class WarpCamera:
    """Draw one camera's images of `num_worlds` worlds at once.

    The images are those of `RayTracer`, whose model it draws.

    Args:
        scene: model, camera and background.
        size: height and width of an image in pixels.
        num_worlds: number of worlds.
        poses: of these worlds, Warp's arrays [world, object] by the names in `POSES`, which are
            drawn without a copy.
        colours: by the names in `APPEARANCE_FIELDS`, float [variant, thing, 4].
        distractors: number of spheres to add to the scene.
        device: Warp's name of the device.

    Attributes:
        images: uint8 [world, size, size, 3], what `draw` has drawn.
        distractors: float32 [world, distractor, 3], in the camera's frame (right, up, backwards),
            metres.
        device: as given.
        size: as given.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        num_worlds: int,
        poses: Mapping[str, Any],
        colours: dict[str, Float[Tensor, "variant thing 4"]],
        distractors: int,
        device: str,
    ) -> None:
        model = drawable(with_distractors(scene, distractors) if distractors else scene.model)
        self._camera = int(model.camera(scene.camera).id)
        self._poses = poses
        with warp.ScopedDevice(device):
            self._model = mujoco_warp.put_model(model)
            self._own_colours = [
                self._per_world(name, colours[name], num_worlds) for name in APPEARANCE_FIELDS
            ]
            self._data = self._drawn(model, num_worlds, distractors)
            self._context = render_context(scene, model, size, num_worlds)
            pixels = warp.zeros((num_worlds, size * size, 3), dtype=warp.uint8)
            spheres = warp.zeros((num_worlds, distractors), dtype=warp.vec3)
        self._pixels = pixels
        self._spheres = spheres
        self.images: UInt8[Tensor, "world size size 3"] = warp.to_torch(pixels).view(
            num_worlds, size, size, 3
        )
        self.distractors: Float[Tensor, "world distractor 3"] = (
            warp.to_torch(spheres) if distractors else torch.zeros(num_worlds, 0, 3)
        )
        self.distractors[..., 2] = OUT_OF_SIGHT
        self.device = device
        self.size = size
        self._graph = WarpGraph(device, self._launch)

    def draw(self) -> UInt8[Tensor, "world size size 3"]:
        """Draw all worlds and return `images`, which the next call overwrites."""
        self._graph.replay()
        return self.images

    def choose_colours(
        self, mask: Bool[Tensor, " world"], variants: Int64[Tensor, " world"]
    ) -> None:
        """Give the worlds in `mask` the colours of their variants."""
        for colours in self._own_colours:
            colours.choose(mask, variants)

    def _launch(self) -> None:
        self.launch_drawing()
        warp.launch(
            unpack_pixels,
            dim=self.packed.shape,
            inputs=[self.packed],
            outputs=[self._pixels],
        )

    @property
    def packed(self) -> Any:
        """Return Warp's array of what was drawn, uint32 [world, pixel]."""
        return self._context.rgb_data

    def launch_drawing(self) -> None:
        """Launch what draws all worlds into `packed`, to be captured."""
        data = self._data
        if self.distractors.shape[1]:
            warp.launch(
                place_geoms,
                dim=data.geom_xpos.shape,
                inputs=[
                    self._poses["geom_xpos"],
                    self._poses["geom_xmat"],
                    data.cam_xpos,
                    data.cam_xmat,
                    self._camera,
                    self._spheres,
                ],
                outputs=[data.geom_xpos, data.geom_xmat],
            )
        mujoco_warp.refit_bvh(self._model, data, self._context)
        mujoco_warp.render(self._model, data, self._context)

    def _per_world(self, name: str, table: Tensor, num_worlds: int) -> PerWorld:
        """Give every world its own colours; those of distractors are the same for all variants."""
        shared = warp.to_torch(getattr(self._model, name))
        rows = shared.repeat(len(table), *[1] * (shared.ndim - 1))
        rows[:, : table.shape[1]] = table.to(rows)
        return PerWorld(self._model, name, rows, num_worlds)

    def _drawn(self, model: Any, num_worlds: int, distractors: int) -> mujoco_warp.Data:
        """Return data of which only the poses are used: those given, where possible.

        Distractors are not simulated; with them the geoms' poses are copies.
        """
        data = mujoco_warp.make_data(model, 1, nconmax=1, njmax=1)
        data.nworld = num_worlds
        for name in POSES:
            shared = self._poses[name]
            if distractors and name.startswith("geom"):
                shared = warp.zeros((num_worlds, model.ngeom), dtype=shared.dtype)
            setattr(data, name, shared)
        return data


class FrameStack:
    """Keep the last images of every world, oldest first, on the device that draws them.

    Args:
        camera: draws all worlds.
        frames: images in a stack.

    Attributes:
        pixels: uint8 [world, size, size, 3 * frames]; every call below changes it in place.
    """

    def __init__(self, camera: WarpCamera, frames: int) -> None:
        num_worlds = len(camera.images)
        self._camera = camera
        with warp.ScopedDevice(camera.device):
            stack = warp.zeros((num_worlds, camera.size**2, 3 * frames), dtype=warp.uint8)
            fresh = warp.zeros(num_worlds, dtype=bool)
        self._stack = stack
        self._fresh_array = fresh
        self._fresh: Bool[Tensor, " world"] = warp.to_torch(fresh)
        self.pixels: UInt8[Tensor, "world size size channel"] = warp.to_torch(stack).view(
            num_worlds, camera.size, camera.size, 3 * frames
        )
        self._push = WarpGraph(camera.device, self._launch_push)
        self._fill = WarpGraph(camera.device, self._launch_fill)

    def push(self) -> None:
        """Append an image of the present state to the stacks of all worlds."""
        self._push.replay()

    def fill(self, fresh: Bool[Tensor, " world"]) -> None:
        """Let the stacks of these worlds show nothing but the present state."""
        self._fresh.copy_(fresh)
        self._fill.replay()

    def _launch_push(self) -> None:
        self._camera.launch_drawing()
        packed = self._camera.packed
        warp.launch(push_frame, dim=packed.shape, inputs=[packed], outputs=[self._stack])

    def _launch_fill(self) -> None:
        self._camera.launch_drawing()
        packed = self._camera.packed
        warp.launch(fill_frames, dim=packed.shape, inputs=[packed, self._fresh_array, self._stack])
