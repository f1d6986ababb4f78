"""Change dm_control's scenes where their published images are not needed."""

import mujoco

# Nothing is drawn where the suite's sky would be.
SKY = (0.25, 0.4, 0.55)

_BRIGHTNESS = 0.7


def light_from_the_camera(spec: mujoco.MjSpec) -> None:
    """Keep only the headlight: a second light would take a sixth of every image's time."""
    for light in list(spec.lights):
        spec.delete(light)
    spec.visual.headlight.ambient = [_BRIGHTNESS] * 3
    spec.visual.headlight.diffuse = [_BRIGHTNESS] * 3


def lengthen_floor(spec: mujoco.MjSpec, name: str, half_length: float) -> None:
    """Draw the floor `half_length` metres to both sides of the start.

    The planar bodies' floors begin 2 m behind the start, which is too short for moving backwards. A
    body that leaves the drawn floor does not fall, because planes are infinite for MuJoCo's
    contacts, but images no longer show that it moves.
    """
    floor = spec.geom(name)
    floor.size = [half_length, *floor.size[1:]]
    floor.pos = [0.0, *floor.pos[1:]]
