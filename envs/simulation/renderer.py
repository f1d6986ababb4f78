"""Images by MuJoCo Warp's ray tracer: no OpenGL, no display, the same image on a CPU and on a
GPU.
"""

import copy
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import mujoco
import mujoco_warp
import numpy as np
import warp
from jaxtyping import Float32, Int32, UInt8, UInt64

from envs.simulation.distractors import with_distractors
from envs.simulation.physics import Scene
from envs.simulation.terrain import has_terrain

# What an image is made of: MuJoCo's own field names, equal in MjData and in Warp's Data.
POSES = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
# How a world looks: MuJoCo's own field names in MjModel.
APPEARANCE_FIELDS = ("geom_rgba", "mat_rgba")

# Loading cached kernels takes a fraction of this; compiling them takes several times as long.
COMPILING_AFTER_SECONDS = 2.0
NO_GPU_NOTE = "Could not find or load the NVIDIA CUDA driver"


class RayTracer:
    """Draws one camera's image of up to `capacity` worlds at a time. Not to be shared between
    threads.

    Attributes:
        poses: the buffers to fill before `draw`, by the names in `POSES`: float32, [capacity,
            numbers of one world].
        looks: the same by the names in `APPEARANCE_FIELDS`, filled already as the scene's model is.
        distractors: number of spheres that follow the scene's own geoms in both.
        terrains: where a scene's height fields differ from world to world, the `Terrain.id` of
            each; empty elsewhere.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        capacity: int,
        segmentation: bool = False,
        distractors: int = 0,
    ) -> None:
        start_warp()
        model = drawable(with_distractors(scene, distractors) if distractors else scene.model)
        self._size, self.distractors = size, distractors
        terrain = has_terrain(scene)
        with announce_compilation(COMPILING_AFTER_SECONDS):
            self._model = mujoco_warp.put_model(model)
            # Nothing is simulated here, so there is room for no more than one contact.
            self._data = mujoco_warp.make_data(model, capacity, nconmax=1, njmax=1)
            self._context = _context(scene, model, size, capacity, segmentation)
            self._trace(1)
        # On the CPU device these are views of the memory that the ray tracer reads and writes.
        self.poses: dict[str, Float32[np.ndarray, "capacity numbers"]] = {
            name: getattr(self._data, name).numpy().reshape(capacity, -1).view(np.float32)
            for name in POSES
        }
        self.looks: dict[str, Float32[np.ndarray, "capacity numbers"]] = {
            name: self._per_world(name, getattr(model, name), capacity)
            for name in APPEARANCE_FIELDS
        }
        # Which mesh is each world's terrain.
        self.terrains: UInt64[np.ndarray, " capacity"] = (
            self._own_terrains(model, capacity) if terrain else np.zeros(0)
        )
        self._colours = self._context.rgb_data.numpy().view(np.uint8)

    def draw(self, count: int, out: UInt8[np.ndarray, "count height width 3"]) -> None:
        """Draw the first `count` worlds of `poses` into `out`, which may be a strided view."""
        self._trace(count)
        # The ray tracer packs a pixel into four bytes: blue, green, red, opacity. Copying one
        # colour at a time is five times as fast as copying pixels backwards.
        pixels = self._colours[:count].reshape(count, self._size, self._size, 4)
        for colour in range(3):
            out[..., colour] = pixels[..., 2 - colour]

    def segment(self, count: int) -> Int32[np.ndarray, "count height width"]:
        """Which geom each pixel shows, -1 for none. Needs `segmentation=True`, and then `draw` has
        no colours.
        """
        self._trace(count)
        labels: np.ndarray = self._context.seg_data.numpy()[:count, :, 0]
        return labels.reshape(count, self._size, self._size).copy()

    def _per_world(
        self, name: str, colours: Float32[np.ndarray, "thing 4"], capacity: int
    ) -> Float32[np.ndarray, "capacity numbers"]:
        """Gives every world colours of its own, in place of those that all worlds share; returns
        their memory.
        """
        own = warp.array(np.tile(colours, (capacity, 1, 1)), dtype=warp.vec4)
        setattr(self._model, name, own)
        view: np.ndarray = own.numpy().view(np.float32).reshape(capacity, colours.size)
        return view

    def _own_terrains(
        self, model: mujoco.MjModel, capacity: int
    ) -> UInt64[np.ndarray, " capacity"]:
        """Gives every world a height field of its own, in place of the model's; returns the memory
        of their meshes.
        """
        chosen = np.tile(model.geom_dataid, (capacity, 1))
        chosen[:, model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD] = np.arange(capacity)[:, None]
        self._model.geom_dataid = warp.array(chosen, dtype=int)
        # Their boxes hold them up to half as much again as a height field's own height.
        half = model.hfield_size[0, :3] * (1.0, 1.0, 0.75)
        self._context.hfield_bounds_size = warp.array(
            np.tile(half, (capacity, 1)).astype(np.float32), dtype=warp.vec3
        )
        meshes = np.tile(self._context.hfield_bvh_id.numpy(), capacity)
        self._context.hfield_bvh_id = warp.array(meshes, dtype=warp.uint64)
        view: np.ndarray = self._context.hfield_bvh_id.numpy()
        return view

    def _trace(self, count: int) -> None:
        # Only the launch sizes read this number, so fewer worlds than there is room for cost less.
        self._data.nworld = count
        mujoco_warp.refit_bvh(self._model, self._data, self._context)
        mujoco_warp.render(self._model, self._data, self._context)


def _context(
    scene: Scene, model: mujoco.MjModel, size: int, capacity: int, segmentation: bool
) -> mujoco_warp.RenderContext:
    """What the ray tracer works with. Whatever a scene has none of is compiled away."""
    context = mujoco_warp.create_render_context(
        _planes_aside(model),
        capacity,
        cam_res=(size, size),
        render_rgb=not segmentation,
        render_depth=False,
        render_seg=segmentation,
        cam_active=[scene.camera],
        background_color=(*scene.background, 1.0),
        use_textures=scene.textures,
        enable_specular=False,
        enable_emission=bool(model.mat_emission.any()),
        enable_per_light_ambient=bool(model.light_ambient.any()),
        enable_backface_culling=False,
    )
    if scene.textures:
        # The library interpolates between texels, which costs a tenth of an image; at this size
        # nobody sees it.
        context.textures_registry = [_texture(model, index) for index in range(model.ntex)]
        context.textures = warp.array(context.textures_registry, dtype=warp.Texture2D)
    return context


def drawable(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy for drawing: without the features of the dynamics that MuJoCo Warp refuses."""
    copied = copy.copy(model)
    copied.opt.enableflags = 0
    # Without this MuJoCo Warp warns of pairs of geoms that it collides with fewer contacts.
    copied.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MULTICCD
    copied.opt.noslip_iterations = 0
    copied.geom_margin[:] = 0
    copied.geom_gap[:] = 0
    return copied


def _texture(model: mujoco.MjModel, index: int) -> warp.Texture2D:
    """One of the model's textures, read at the nearest texel."""
    height, width, channels = (
        getattr(model, f"tex_{name}")[index] for name in ("height", "width", "nchannel")
    )
    first = model.tex_adr[index]
    texels = model.tex_data[first : first + height * width * channels].reshape(
        height, width, channels
    )
    colours = np.ones((height, width, 4), np.float32)
    colours[..., :channels] = texels / np.float32(255)
    return warp.Texture2D(colours, filter_mode=warp.TextureFilterMode.CLOSEST)


def _planes_aside(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy that the tree of bounding boxes is built from; the boxes themselves are refitted for
    every image.

    A plane's box is as long as the plane in every direction: with it in place the tree would tell
    nothing else apart, and an image of the walker would cost an eighth more.
    """
    copied = copy.copy(model)
    planes = copied.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    copied.geom_size[planes], copied.geom_pos[planes] = 0.1, 100.0
    copied.geom_sameframe[planes] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    return copied


@cache
def start_warp() -> None:
    """Start Warp on the CPU device, once, without its banner and its remark that there is no GPU
    driver.
    """
    warp.config.log_level = warp.LOG_WARNING
    with without_line(NO_GPU_NOTE):
        warp.init()
    warp.set_device("cpu")


@contextmanager
def announce_compilation(seconds: float) -> Iterator[None]:
    """Say on stderr that kernels are being compiled, when the block takes longer than `seconds`."""
    note = f"pixel-hrl: compiling the ray tracer for this scene (once; kept in {warp.config.kernel_cache_dir}) ..."
    timer = threading.Timer(
        seconds, print, args=(note,), kwargs={"file": sys.stderr, "flush": True}
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def without_line(unwanted: str) -> Iterator[None]:
    """Hold back the block's stderr until its end and leave out the lines that contain
    `unwanted`.
    """
    # Warp's native part writes to the file descriptor, past sys.stderr and every log level.
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            kept = [
                line
                for line in caught.read().decode(errors="replace").splitlines()
                if unwanted not in line
            ]
            sys.stderr.write("".join(line + "\n" for line in kept))
