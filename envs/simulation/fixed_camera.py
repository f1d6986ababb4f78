"""Draw the images of a camera that never moves by tracing only the window around what moves.

Most pixels of such an image do not change between two steps. They are traced when an episode starts
(or when anything else than the moving bodies changes, such as a marker) and kept; a step traces a
small square around the moving bodies, with everything that can be seen there, and puts it on a copy
of the kept image. For the point mass this is a sixteenth of the rays.
"""

from collections.abc import Callable

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from envs.simulation.physics import Scene
from envs.simulation.renderer import RayTracer

# Pixels around the moving bodies' outline, against rounding.
_MARGIN = 1
# Sides of windows are multiples of this.
_STEP = 4
# Metres behind the camera at which what moves is not seen.
_BEHIND = 1000.0

Fill = Callable[[RayTracer, list[int]], None]


def window_size(scene: Scene, size: int) -> int | None:
    """Return the side of the window in pixels, or None where tracing whole images is better.

    That is where the camera or a light moves, where nothing moves, or where what moves fills more
    than half of the image's side at the start.
    """
    model = scene.model
    camera = model.camera(scene.camera).id
    fixed = mujoco.mjtCamLight.mjCAMLIGHT_FIXED
    is_fixed = model.cam_bodyid[camera] == 0 and model.cam_mode[camera] == fixed
    are_lights_fixed = not model.light_bodyid.any() and (model.light_mode == fixed).all()
    moving = moving_geoms(model)
    if not (is_fixed and are_lights_fixed and moving.any()) or scene.remodel is not None:
        return None
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    poses = [
        array.astype(np.float32)[None] for array in (data.geom_xpos, data.cam_xpos, data.cam_xmat)
    ]
    low, high = _outlines(model, camera, size, moving, *poses)
    span = float((high - low).max()) + 2 * _MARGIN
    side = _STEP * np.ceil(span / _STEP)
    return int(side) if side <= size // 2 else None


def moving_geoms(model: mujoco.MjModel) -> Bool[np.ndarray, " geom"]:
    """Return which geoms belong to bodies that joints move; mocap bodies only change places."""
    moves = (model.body_weldid != 0) & (model.body_mocapid[model.body_rootid] < 0)
    of_geoms: np.ndarray = moves[model.geom_bodyid]
    return of_geoms


class FixedCamera:
    """Draw images of several worlds, of which it keeps what does not move.

    Args:
        model: of the worlds; variants may differ in camera and colours.
        camera: number of the camera.
        whole: traces whole images.
        window: traces windows, with `is_window=True`.
        worlds: number of worlds.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: int,
        whole: RayTracer,
        window: RayTracer,
        worlds: int,
    ) -> None:
        self._model = model
        self._camera = camera
        self._whole = whole
        self._window = window
        self._moving = moving_geoms(model)
        self._images = np.zeros((worlds, whole.size, whole.size, 3), np.uint8)
        self._windows = np.zeros((worlds, window.size, window.size, 3), np.uint8)
        still = int((~self._moving).sum()) * 12 + model.ncam * 12
        self._drawn = np.full((worlds, still), np.nan, np.float32)
        self._drawn_variants = np.full(worlds, -1)

    def draw(
        self,
        fill: Fill,
        worlds: list[int],
        variants: Int64[np.ndarray, " world"],
        out: UInt8[np.ndarray, "drawn height width 3"],
    ) -> None:
        """Draw the listed worlds.

        Args:
            fill: copies poses and appearance of listed worlds into a ray tracer.
            worlds: numbers of the worlds, in ascending order.
            variants: of each world.
            out: gets the images.
        """
        fill(self._window, worlds)
        poses = {
            name: rows[: len(worlds)].reshape(len(worlds), -1, 3)
            for name, rows in self._window.poses.items()
        }
        low, high = _outlines(
            self._model,
            self._camera,
            self._whole.size,
            self._moving,
            poses["geom_xpos"],
            poses["cam_xpos"],
            poses["cam_xmat"].reshape(len(worlds), -1, 9),
        )
        side = self._window.size
        fits = ((high - low) + 2 * _MARGIN <= side).all(1)
        self._keep_still(fill, worlds, variants, poses)
        corners = np.where(fits[:, None], low - _MARGIN, 0).clip(0, self._whole.size - side)
        corners = corners.astype(np.int64)
        self._window.look_at(corners, self._whole.size)
        seen_through = self._windows[: len(worlds)]
        self._window.draw(len(worlds), seen_through)
        kept = self._images[worlds]
        for colour in range(3):  # four times as fast as whole pixels where `out` is strided
            out[..., colour] = kept[..., colour]
        for image, (left, top), part in zip(out, corners.tolist(), seen_through, strict=True):
            image[top : top + side, left : left + side] = part
        if not fits.all():
            out[~fits] = self._trace_whole(fill, [worlds[row] for row in np.flatnonzero(~fits)])

    def _keep_still(
        self,
        fill: Fill,
        worlds: list[int],
        variants: Int64[np.ndarray, " world"],
        poses: dict[str, Float32[np.ndarray, "drawn object 3"]],
    ) -> None:
        """Trace what does not move anew in the worlds where it is not what was last traced."""
        count = len(worlds)
        rotations = poses["geom_xmat"].reshape(count, -1, 9)[:, ~self._moving]
        still = np.concatenate(
            [
                part.reshape(count, -1)
                for part in (
                    poses["geom_xpos"][:, ~self._moving],
                    rotations,
                    poses["cam_xpos"],
                    poses["cam_xmat"],
                )
            ],
            axis=1,
        )
        is_same = (self._drawn[worlds] == still).all(1)
        is_same &= self._drawn_variants[worlds] == variants[worlds]
        if is_same.all():
            return
        rows = np.flatnonzero(~is_same)
        changed = [worlds[row] for row in rows]
        self._images[changed] = self._trace_whole(fill, changed, without_moving=True)
        self._drawn[changed] = still[rows]
        self._drawn_variants[changed] = variants[changed]
        self._window.rebuild(count)

    def _trace_whole(
        self, fill: Fill, worlds: list[int], without_moving: bool = False
    ) -> UInt8[np.ndarray, "drawn height width 3"]:
        """Trace whole images of the listed worlds, with or without what moves."""
        fill(self._whole, worlds)
        if without_moving:
            capacity = len(self._images)
            positions, cameras, rotations = (
                self._whole.poses[name].reshape(capacity, -1, size)
                for name, size in (("geom_xpos", 3), ("cam_xpos", 3), ("cam_xmat", 9))
            )
            backwards = rotations[:, self._camera, 2::3]
            behind = cameras[:, self._camera] + _BEHIND * backwards
            positions[:, self._moving] = behind[:, None]
        images: np.ndarray = np.empty((len(worlds), *self._images.shape[1:]), np.uint8)
        self._whole.draw(len(worlds), images)
        return images


def _outlines(
    model: mujoco.MjModel,
    camera: int,
    size: int,
    moving: Bool[np.ndarray, " geom"],
    positions: Float32[np.ndarray, "world geom 3"],
    cameras: Float32[np.ndarray, "world camera 3"],
    rotations: Float32[np.ndarray, "world camera 9"],
) -> tuple[Float32[np.ndarray, "world 2"], Float32[np.ndarray, "world 2"]]:
    """Return the least and largest pixel edges, from the left and from the top, of what moves.

    They hold the spheres around all moving geoms. The last is infinite, and the first finite, where
    one reaches the camera's plane.
    """
    turn = rotations[:, camera].reshape(-1, 3, 3)
    seen = np.einsum("wgi,wij->wgj", positions[:, moving] - cameras[:, None, camera], turn)
    right_and_down = seen[..., :2] * (1.0, -1.0)
    radius = model.geom_rbound[moving][:, None]
    depth = -seen[..., 2:]
    nearest = np.where(depth > radius, depth - radius, np.nan)
    ends = [
        lateral / np.where(outwards, nearest, depth + radius)
        for lateral, outwards in (
            (right_and_down - radius, right_and_down < radius),
            (right_and_down + radius, right_and_down > -radius),
        )
    ]
    focal = focal_length(model, camera, size)
    low, high = (size / 2 + focal * end for end in ends)
    is_seen = np.isfinite(low).all((1, 2)) & np.isfinite(high).all((1, 2))
    first, last = np.floor(low).min(1), np.ceil(high).max(1)
    return np.where(is_seen[:, None], first, 0), np.where(is_seen[:, None], last, np.inf)


def focal_length(model: mujoco.MjModel, camera: int, size: int) -> float:
    """Return the distance from the camera to the image plane, in pixels of an image this size."""
    return float(size / 2 / np.tan(np.radians(model.cam_fovy[camera]) / 2))
