"""Move coloured spheres through the image that have nothing to do with the task: distractors.

They are geoms of the ray tracer's model alone: they are lit like all others, are hidden by what is
in front of them and hide what is behind them, and do not exist for the dynamics. Their paths are
fixed to the camera, so that a camera that follows a body does not leave them behind. They reach
equally far, relative to the distance of the camera's subject, in front of and behind it in every
scene.
"""

from functools import cache

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from envs.simulation.physics import Scene

# Metres behind the camera.
OUT_OF_SIGHT = 10.0
# In heights of the image, at the distance of the camera's subject.
RADIUS = 1 / 16
# Shares of the distance of the camera's subject.
NEAREST = 0.5
FARTHEST = 1.1
_REACH = 0.5 - 1.1 * RADIUS / NEAREST
# These differ from the colours of goals, targets and the point mass.
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
MAX_DISTRACTORS = len(_COLOURS)
# Cycles per second to the right, upwards and away, and the initial phases: multiples of the golden
# ratio and of its generalisations to more dimensions, so that no two spheres stay together and no
# path repeats itself within an episode.
_TURNS = (
    np.arange(1, MAX_DISTRACTORS + 1)[:, None]
    * np.array([0.6180339887, 0.7548776662, 0.8191725134])
    % 1
)
_CYCLES = 0.1 + 0.15 * _TURNS
_PHASES = _TURNS[::-1]


def paths(seconds: Float[np.ndarray, " world"]) -> Float[np.ndarray, "world distractor 3"]:
    """Return the spheres' positions at a time.

    They are given to the right of and above the image's centre in heights of the image, and away
    from the camera as a share of the distance of the camera's subject.
    """
    phase = seconds[:, None, None] * _CYCLES + _PHASES
    swing = np.sin(2 * np.pi * phase)
    middle = (NEAREST + FARTHEST) / 2
    half = (FARTHEST - NEAREST) / 2
    return np.concatenate([_REACH * swing[..., :2], middle + half * swing[..., 2:]], axis=-1)


def distractor_positions(
    scene: Scene,
    shown: Bool[np.ndarray, "world distractor"],
    seconds: Float[np.ndarray, " world"],
    distance: Float[np.ndarray, " world"],
) -> Float[np.ndarray, "world distractor 3"]:
    """Return the spheres' positions in the camera's frame (right, up, backwards), metres.

    Args:
        scene: its camera defines the frame.
        shown: False puts a sphere behind the camera.
        seconds: the time in each world.
        distance: factor on the distance between each world's camera and its subject.
    """
    height, subject_distance = _view(scene)
    found = paths(seconds)[:, : shown.shape[1]]
    depth = subject_distance * distance[:, None, None] * found[..., 2:]
    in_view = np.concatenate([height * depth * found[..., :2], -depth], axis=-1)
    return np.where(shown[..., None], in_view, (0.0, 0.0, OUT_OF_SIGHT))


@cache
def with_distractors(scene: Scene, count: int) -> mujoco.MjModel:
    """Return the scene's model, only for drawing, with the first `count` spheres as its last geoms.

    Raises:
        ValueError: compiling the model put them elsewhere.
    """
    spec = scene.build()
    height, subject_distance = _view(scene)
    radius = RADIUS * height * subject_distance
    body = spec.worldbody.add_body()
    for colour in _COLOURS[:count]:
        sphere = body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], rgba=[*(colour / 255), 1]
        )
        sphere.mass = 0
        sphere.material = ""
        sphere.group = 0
        sphere.contype = 0
        sphere.conaffinity = 0
    model = spec.compile()
    plain = scene.model
    if not all(
        np.array_equal(getattr(model, name)[: plain.ngeom], getattr(plain, name))
        for name in ("geom_type", "geom_size")
    ):
        raise ValueError(f"the distractors of scene {scene.name!r} did not become its last geoms")
    return model


@cache
def _view(scene: Scene) -> tuple[float, float]:
    """Return the image's height at a distance of one metre, and the subject's distance, metres."""
    height = 2 * float(np.tan(np.deg2rad(scene.model.camera(scene.camera).fovy[0]) / 2))
    return height, subject_distance(scene.model, scene.camera)


def subject_distance(model: mujoco.MjModel, camera: str) -> float:
    """Return the distance between a camera and its subject in the model's initial state, metres.

    The subject is the centre of mass of the body that the camera follows or belongs to, or of all
    bodies where the camera is fixed.
    """
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    index = model.camera(camera).id
    return float(np.linalg.norm(data.cam_xpos[index] - data.subtree_com[model.cam_bodyid[index]]))
