"""Draw images with MuJoCo Warp's ray tracer, which needs neither OpenGL nor a display.

The image is the same on a CPU and on a GPU.
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
from jaxtyping import Float32, Int32, Int64, UInt8, UInt64
from mujoco_warp._src.bvh import compute_bvh_group_roots

from envs.simulation.distractors import with_distractors
from envs.simulation.physics import Scene
from envs.simulation.terrain import has_terrain

# MuJoCo's names of the fields that an image depends on, equal in MjData and in Warp's Data.
POSES = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
# MuJoCo's names of the fields of MjModel that define a world's colours.
APPEARANCE_FIELDS = ("geom_rgba", "mat_rgba")

# Loading cached kernels takes a fraction of this; compiling them takes several times as long.
COMPILING_AFTER_SECONDS = 2.0
NO_GPU_NOTE = "Could not find or load the NVIDIA CUDA driver"


class RayTracer:
    """Draw one camera's image of up to `capacity` worlds at a time.

    Threads must not share it.

    Args:
        scene: model, camera and background.
        size: height and width of an image in pixels.
        capacity: number of worlds, at most.
        segmentation: draw geoms' numbers instead of colours.
        distractors: number of spheres to add to the scene.
        is_window: draw a window of a larger image, whose place in it `look_at` sets for each world.

    Attributes:
        size: height and width of an image in pixels.
        poses: the buffers to fill before `draw`, by the names in `POSES`: float32 [capacity,
            numbers of one world].
        appearance: the same by the names in `APPEARANCE_FIELDS`, initially that of the scene's
            model.
        distractors: number of spheres that follow the scene's own geoms in both.
        terrains: the `Terrain.id` of each world where height fields differ between worlds; empty
            for other scenes.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        capacity: int,
        segmentation: bool = False,
        distractors: int = 0,
        is_window: bool = False,
    ) -> None:
        start_warp()
        model = drawable(with_distractors(scene, distractors) if distractors else scene.model)
        self.size = size
        self._capacity = capacity
        self.distractors = distractors
        terrain = has_terrain(scene)
        self._planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        with announce_compilation(COMPILING_AFTER_SECONDS):
            self._model = mujoco_warp.put_model(model)
            # Nothing is simulated here, so that room for one contact is enough.
            self._data = mujoco_warp.make_data(model, capacity, nconmax=1, njmax=1)
            self._context = render_context(scene, model, size, capacity, segmentation, is_window)
            if is_window:
                self._sensors = self._own_sensors(scene, model, size, capacity)
            self._trace(1)
        # On the CPU device these are views of the memory that the ray tracer reads and writes.
        self.poses: dict[str, Float32[np.ndarray, "capacity numbers"]] = {
            name: getattr(self._data, name).numpy().reshape(capacity, -1).view(np.float32)
            for name in POSES
        }
        self.appearance: dict[str, Float32[np.ndarray, "capacity numbers"]] = {
            name: self._per_world(name, getattr(model, name), capacity)
            for name in APPEARANCE_FIELDS
        }
        # The mesh of each world's terrain.
        self.terrains: UInt64[np.ndarray, " capacity"] = (
            self._own_terrains(model, capacity) if terrain else np.zeros(0)
        )
        self._colours = self._context.rgb_data.numpy().view(np.uint8)

    def draw(self, count: int, out: UInt8[np.ndarray, "count height width 3"]) -> None:
        """Draw the first `count` worlds of `poses` into `out`, which may be a strided view."""
        self._trace(count)
        # The ray tracer packs a pixel into four bytes: blue, green, red, opacity. Copying one
        # colour at a time is five times as fast as copying pixels backwards.
        pixels = self._colours[:count].reshape(count, self.size, self.size, 4)
        for colour in range(3):
            out[..., colour] = pixels[..., 2 - colour]

    def segment(self, count: int) -> Int32[np.ndarray, "count height width"]:
        """Return the number of the geom that each pixel shows, -1 for none.

        This needs `segmentation=True`, with which `draw` has no colours.
        """
        self._trace(count)
        labels: np.ndarray = self._context.seg_data.numpy()[:count, :, 0]
        return labels.reshape(count, self.size, self.size).copy()

    def look_at(self, corners: Int64[np.ndarray, "count 2"], whole: int) -> None:
        """Place the windows of the first worlds.

        Args:
            corners: pixels that are left of and above each window in the whole image.
            whole: side of the whole image in pixels.
        """
        # The focal length in pixels, and the image's centre relative to the window's.
        self._sensors[: len(corners), :2] = self._focal * whole
        self._sensors[: len(corners), 2:] = (self.size - whole) / 2 + corners

    def rebuild(self, count: int) -> None:
        """Sort the bounding boxes anew by where the geoms of the first `count` worlds are now.

        The tree is built from the scene's initial state, and only its boxes follow the geoms. Where
        walls are elsewhere in each world, an image then takes longer.
        """
        self._data.nworld = count
        context = self._context
        mujoco_warp.refit_bvh(self._model, self._data, context)
        # A plane's box holds everything: see `_planes_aside`.
        for bounds in (context.lower, context.upper):
            bounds.numpy().reshape(self._capacity, -1, 3)[:, self._planes] = 100.0
        context.bvh.rebuild("sah")
        warp.launch(
            compute_bvh_group_roots,
            dim=self._capacity,
            inputs=[context.bvh_id, context.group_root],
        )

    def _own_sensors(
        self, scene: Scene, model: mujoco.MjModel, size: int, capacity: int
    ) -> Float32[np.ndarray, "capacity 4"]:
        """Give every world its own window of the camera's image, and return their memory.

        They are the focal lengths and the image's centre, in pixels right and up.
        """
        camera = model.camera(scene.camera).id
        self._focal = 0.5 / np.tan(np.radians(model.cam_fovy[camera]) / 2)
        self._model.cam_sensorsize = warp.array(
            np.full((model.ncam, 2), size, np.float32), dtype=warp.vec2
        )
        own = warp.array(np.ones((capacity, model.ncam, 4), np.float32), dtype=warp.vec4)
        self._model.cam_intrinsic = own
        view: np.ndarray = own.numpy().view(np.float32).reshape(capacity, model.ncam, 4)
        return view[:, camera]

    def _per_world(
        self, name: str, colours: Float32[np.ndarray, "thing 4"], capacity: int
    ) -> Float32[np.ndarray, "capacity numbers"]:
        """Give every world its own colours in place of shared ones, and return their memory."""
        own = warp.array(np.tile(colours, (capacity, 1, 1)), dtype=warp.vec4)
        setattr(self._model, name, own)
        view: np.ndarray = own.numpy().view(np.float32).reshape(capacity, colours.size)
        return view

    def _own_terrains(
        self, model: mujoco.MjModel, capacity: int
    ) -> UInt64[np.ndarray, " capacity"]:
        """Give every world its own height field, and return the memory of the meshes' ids."""
        chosen = np.tile(model.geom_dataid, (capacity, 1))
        chosen[:, model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD] = np.arange(capacity)[:, None]
        self._model.geom_dataid = warp.array(chosen, dtype=int)
        # The bounding boxes hold heights up to 1.5 times the height field's own.
        half = model.hfield_size[0, :3] * (1.0, 1.0, 0.75)
        self._context.hfield_bounds_size = warp.array(
            np.tile(half, (capacity, 1)).astype(np.float32), dtype=warp.vec3
        )
        meshes = np.tile(self._context.hfield_bvh_id.numpy(), capacity)
        self._context.hfield_bvh_id = warp.array(meshes, dtype=warp.uint64)
        view: np.ndarray = self._context.hfield_bvh_id.numpy()
        return view

    def _trace(self, count: int) -> None:
        # Only the launch sizes read this number, so that drawing fewer worlds costs less.
        self._data.nworld = count
        mujoco_warp.refit_bvh(self._model, self._data, self._context)
        mujoco_warp.render(self._model, self._data, self._context)


def render_context(
    scene: Scene,
    model: mujoco.MjModel,
    size: int,
    capacity: int,
    segmentation: bool = False,
    is_window: bool = False,
) -> mujoco_warp.RenderContext:
    """Make the ray tracer's context, without the features that a scene does not have.

    For the arguments see `RayTracer`; `model` is the one that is drawn.
    """
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
        use_precomputed_rays=not is_window,
    )
    if scene.textures:
        # The library's interpolation between texels takes a tenth of an image's time and is not
        # visible at this size.
        context.textures_registry = [_texture(model, index) for index in range(model.ntex)]
        context.textures = warp.array(context.textures_registry, dtype=warp.Texture2D)
    return context


def drawable(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a copy for drawing, without features of the dynamics that MuJoCo Warp refuses."""
    copied = copy.copy(model)
    copied.opt.enableflags = 0
    # Without this MuJoCo Warp warns about pairs of geoms with fewer contacts than in MuJoCo.
    copied.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MULTICCD
    copied.opt.noslip_iterations = 0
    copied.geom_margin[:] = 0
    copied.geom_gap[:] = 0
    return copied


def _texture(model: mujoco.MjModel, index: int) -> warp.Texture2D:
    """Return one of the model's textures, read at the nearest texel."""
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
    """Return a copy from which to build the tree of bounding boxes, with planes moved away.

    A plane's box is as long as the plane in every direction. With it in place the tree would not
    separate anything else, and an image of the walker would take an eighth longer. The boxes
    themselves are refitted for every image.
    """
    copied = copy.copy(model)
    planes = copied.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    copied.geom_size[planes] = 0.1
    copied.geom_pos[planes] = 100.0
    copied.geom_sameframe[planes] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    return copied


@cache
def start_warp() -> None:
    """Start Warp on the CPU device, once, without its banner and its note on a missing driver.

    Raises:
        OSError: the folder of compiled kernels cannot be made; it names the variable of another.
    """
    warp.config.log_level = warp.LOG_WARNING
    with _cache_errors(), without_line(NO_GPU_NOTE):
        warp.init()
    warp.set_device("cpu")


@contextmanager
def announce_compilation(seconds: float, what: str = "the ray tracer") -> Iterator[None]:
    """Say on stderr that kernels are being compiled, when the block takes longer than `seconds`.

    Args:
        seconds: that loading compiled kernels may take.
        what: is compiled.

    Raises:
        OSError: a compiled kernel cannot be written; it names the variable of another folder.
    """
    note = (
        f"pixel-hrl: compiling {what} for this scene "
        f"(once; kept in {warp.config.kernel_cache_dir}) ..."
    )
    timer = threading.Timer(
        seconds, print, args=(note,), kwargs={"file": sys.stderr, "flush": True}
    )
    timer.daemon = True
    timer.start()
    try:
        with _cache_errors():
            yield
    finally:
        timer.cancel()


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Say in an error of the file system which variable names another folder for kernels."""
    try:
        yield
    except OSError as error:
        advice = (
            f"{error.strerror} (compiled kernels of the ray tracer are kept below the user's "
            "home; the environment variable WARP_CACHE_PATH names another folder)"
        )
        raise OSError(error.errno, advice, error.filename) from error


@contextmanager
def without_line(unwanted: str) -> Iterator[None]:
    """Hold back the block's stderr until its end, and omit lines that contain `unwanted`."""
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
