"""How dm_control's scenes are changed where their published images are not needed."""

import mujoco

# Nothing is drawn where the suite's sky would be.
SKY = (0.25, 0.4, 0.55)

_BRIGHTNESS = 0.7


def light_from_the_camera(spec: mujoco.MjSpec) -> None:
    """Leave the headlight alone: a second light would cost a sixth of every image."""
    for light in list(spec.lights):
        spec.delete(light)
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = (
        [_BRIGHTNESS] * 3,
        [_BRIGHTNESS] * 3,
    )


def lengthen_floor(spec: mujoco.MjSpec, name: str, half_length: float) -> None:
    """Draw the floor `half_length` metres to both sides of the start.

    The planar bodies' floors begin 2 m behind the start, which is too short for moving backwards. A
    body that leaves the drawn floor does not fall, because planes are endless to MuJoCo's contacts,
    but nothing shows that it moves.
    """
    floor = spec.geom(name)
    floor.size = [half_length, *floor.size[1:]]
    floor.pos = [0.0, *floor.pos[1:]]
