"""Build the ant of dm_control's locomotion library, which all ant tasks share."""

import mujoco

from envs.families.suite_models import library_model

# A control timestep of 0.02 s over a physics timestep of 0.005 s, as for the quadruped and in
# Director's ant mazes.
SUBSTEPS = 4
BODY = "an ant with 8 motors (dm_control's)"
_TIMESTEP = 0.005


def spec(floor_half_length: float) -> mujoco.MjSpec:
    """Return dm_control's ant, free on a checkered floor, without its range finders.

    The floor reaches `floor_half_length` metres in every direction.

    Source: `walkers.Ant` as `arenas.Floor().add_free_entity` attaches it (dm_control.locomotion),
    with the options of `composer/arena.xml`.
    """
    scene = mujoco.MjSpec()
    scene.option.timestep = _TIMESTEP
    scene.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    scene.option.noslip_iterations = 5
    scene.option.noslip_tolerance = 0.0
    scene.compiler.boundmass = 1e-5
    scene.compiler.boundinertia = 1e-11
    scene.visual.map.znear = 0.01
    _add_floor(scene, floor_half_length)
    ant = library_model("third_party/ant/ant.xml")
    for sensor in [
        each for each in ant.sensors if each.type == mujoco.mjtSensor.mjSENS_RANGEFINDER
    ]:
        ant.delete(sensor)
    # Attached, not extended: the ant file's defaults must not apply to the scene's geoms.
    torso = scene.worldbody.add_frame().attach_body(ant.body("torso"), "", "")
    torso.add_freejoint()
    return scene


def _add_floor(scene: mujoco.MjSpec, half_length: float) -> None:
    """Add the plane of `arenas.Floor`, which has white lines one metre apart."""
    scene.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        mark=mujoco.mjtMark.mjMARK_EDGE,
        rgb1=[0.2, 0.3, 0.4],
        rgb2=[0.1, 0.2, 0.3],
        markrgb=[0.8, 0.8, 0.8],
        width=200,
        height=200,
    )
    floor = scene.add_material(name="floor", texrepeat=[2, 2], texuniform=True)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    size = [half_length, half_length, 0.25]
    scene.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=size, material="floor"
    )
