"""Hold the kernels that MuJoCo Warp lacks: faults, distractors and the observation's pixels."""

# mypy: ignore-errors
# Warp compiles these functions; the types of its language are not those of Python.

import warp

# A bit of a world's faults beside those of MuJoCo Warp's `OverflowType`.
NOT_FINITE = 1 << 30
_NOT_FINITE = warp.constant(NOT_FINITE)


@warp.kernel(enable_backward=False)
def note_faults(
    qpos: warp.array2d(dtype=float),
    qvel: warp.array2d(dtype=float),
    counted: int,
    overflow: warp.array(dtype=int),
    faults: warp.array(dtype=int),
) -> None:
    """Add each world's overflows, those in the mask `counted`, and non-finite numbers to faults."""
    world = warp.tid()
    found = faults[world] | (overflow[world] & counted)
    overflow[world] = 0
    for index in range(qpos.shape[1]):
        if not warp.isfinite(qpos[world, index]):
            found = found | _NOT_FINITE
    for index in range(qvel.shape[1]):
        if not warp.isfinite(qvel[world, index]):
            found = found | _NOT_FINITE
    faults[world] = found


@warp.kernel(enable_backward=False)
def place_geoms(
    geom_xpos: warp.array2d(dtype=warp.vec3),
    geom_xmat: warp.array2d(dtype=warp.mat33),
    cam_xpos: warp.array2d(dtype=warp.vec3),
    cam_xmat: warp.array2d(dtype=warp.mat33),
    camera: int,
    distractors: warp.array2d(dtype=warp.vec3),
    drawn_xpos: warp.array2d(dtype=warp.vec3),
    drawn_xmat: warp.array2d(dtype=warp.mat33),
) -> None:
    """Copy simulated geoms and put distractors, given in the camera's frame, behind them."""
    world, geom = warp.tid()
    simulated = geom_xpos.shape[1]
    if geom < simulated:
        drawn_xpos[world, geom] = geom_xpos[world, geom]
        drawn_xmat[world, geom] = geom_xmat[world, geom]
    else:
        offset = cam_xmat[world, camera] * distractors[world, geom - simulated]
        drawn_xpos[world, geom] = cam_xpos[world, camera] + offset
        drawn_xmat[world, geom] = warp.identity(n=3, dtype=float)


@warp.kernel(enable_backward=False)
def unpack_pixels(
    packed: warp.array2d(dtype=warp.uint32),
    images: warp.array3d(dtype=warp.uint8),
) -> None:
    """Write blue, green and red of packed pixels as red, green and blue bytes."""
    world, pixel = warp.tid()
    value = packed[world, pixel]
    images[world, pixel, 0] = warp.uint8((value >> warp.uint32(16)) & warp.uint32(255))
    images[world, pixel, 1] = warp.uint8((value >> warp.uint32(8)) & warp.uint32(255))
    images[world, pixel, 2] = warp.uint8(value & warp.uint32(255))
