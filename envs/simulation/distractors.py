"""What moves through an image and has nothing to do with the task: coloured spheres on paths of
their own.

They are geoms of the ray tracer's model alone: lit as everything is, hidden by what is before them
and hiding what is behind, and unknown to the dynamics. Their paths are fixed to the camera, so that
one that follows a body or belongs to it does not leave them behind, and lead as far before and
behind what is filmed as in every scene.
"""

from functools import cache

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from envs.simulation.physics import Scene

# Metres behind the camera.
OUT_OF_SIGHT = 10.0
# As seen at the distance of what is filmed, in heights of the image.
RADIUS = 1 / 16
# Of the distance of what is filmed.
NEAREST, FARTHEST = 0.5, 1.1
_REACH = 0.5 - 1.1 * RADIUS / NEAREST
# None of the colours that goals, targets and the point mass have.
_COLOURS = np.array(
    [
        (70, 110, 240),
        (200, 80, 220),
        (60, 210, 220),
        (240, 240, 240),
        (150, 150, 160),
        (110, 60, 170),
        (30, 60, 120),
        (240, 140, 190),
    ],
    np.uint8,
)
MOST = len(_COLOURS)
# Cycles a second across, upwards and away, and where in a cycle time begins: multiples of the
# golden ratio and of its likes in more dimensions, so that no two spheres keep together and no path
# comes round to itself within an episode.
_TURNS = np.arange(1, MOST + 1)[:, None] * np.array([0.6180339887, 0.7548776662, 0.8191725134]) % 1
_CYCLES, _FIRST = 0.1 + 0.15 * _TURNS, _TURNS[::-1]


def paths(seconds: Float[np.ndarray, " world"]) -> Float[np.ndarray, "world distractor 3"]:
    """Where spheres are at a time: right of and above the image's middle, in its heights, and how
    far away, as a share of the distance of what is filmed.
    """
    phase = seconds[:, None, None] * _CYCLES + _FIRST
    swing = np.sin(2 * np.pi * phase)
    middle, half = (NEAREST + FARTHEST) / 2, (FARTHEST - NEAREST) / 2
    return np.concatenate([_REACH * swing[..., :2], middle + half * swing[..., 2:]], axis=-1)


def places(
    scene: Scene,
    shown: Bool[np.ndarray, "world distractor"],
    seconds: Float[np.ndarray, " world"],
    distance: Float[np.ndarray, " world"],
) -> Float[np.ndarray, "world distractor 3"]:
    """Where the first spheres of every world are: right of the camera, above and behind it, metres.

    Args:
        shown: those that are not are behind their cameras.
        seconds: all that the others depend on, beside
        distance: factor on how far the camera is from what it films.
    """
    size, away = _view(scene)
    found = paths(seconds)[:, : shown.shape[1]]
    depth = away * distance[:, None, None] * found[..., 2:]
    ahead = np.concatenate([size * depth * found[..., :2], -depth], axis=-1)
    return np.where(shown[..., None], ahead, (0.0, 0.0, OUT_OF_SIGHT))


@cache
def with_distractors(scene: Scene, count: int) -> mujoco.MjModel:
    """The scene's model, for drawing alone, with the first `count` spheres as its last geoms."""
    spec, (size, away) = scene.build(), _view(scene)
    radius = RADIUS * size * away
    body = spec.worldbody.add_body()
    for colour in _COLOURS[:count]:
        sphere = body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], rgba=[*(colour / 255), 1]
        )
        sphere.mass, sphere.material, sphere.group, sphere.contype, sphere.conaffinity = (
            0,
            "",
            0,
            0,
            0,
        )
    model, plain = spec.compile(), scene.model
    if not all(
        np.array_equal(getattr(model, of)[: plain.ngeom], getattr(plain, of))
        for of in ("geom_type", "geom_size")
    ):
        raise ValueError(f"the distractors of scene {scene.name!r} did not become its last geoms")
    return model


@cache
def _view(scene: Scene) -> tuple[float, float]:
    """Metres from the lower to the upper edge of an image at a metre's distance, and to what is
    filmed.
    """
    height = 2 * float(np.tan(np.deg2rad(scene.model.camera(scene.camera).fovy[0]) / 2))
    return height, filming_distance(scene.model, scene.camera)


def filming_distance(model: mujoco.MjModel, camera: str) -> float:
    """Metres from a camera to what it films, in the model's initial state: to the centre of mass of
    the body that it follows or belongs to, and of all bodies where it stands still.
    """
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    index = model.camera(camera).id
    return float(np.linalg.norm(data.cam_xpos[index] - data.subtree_com[model.cam_bodyid[index]]))
