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
    ctrl: warp.array2d(dtype=float),
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
    for index in range(ctrl.shape[1]):
        # Clamped to its range, it would be taken for the range's end.
        if not warp.isfinite(ctrl[world, index]):
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


@warp.func
def _colour(packed: warp.uint32, colour: int) -> warp.uint8:
    """Return red, green or blue, number 0, 1 or 2, of a packed pixel."""
    shift = warp.uint32(8 * (2 - colour))
    return warp.uint8((packed >> shift) & warp.uint32(255))


@warp.kernel(enable_backward=False)
def unpack_pixels(
    packed: warp.array2d(dtype=warp.uint32),
    images: warp.array3d(dtype=warp.uint8),
) -> None:
    """Write blue, green and red of packed pixels as red, green and blue bytes."""
    world, pixel = warp.tid()
    for colour in range(3):
        images[world, pixel, colour] = _colour(packed[world, pixel], colour)


@warp.kernel(enable_backward=False)
def push_frame(
    packed: warp.array2d(dtype=warp.uint32),
    stack: warp.array3d(dtype=warp.uint8),
) -> None:
    """Drop the oldest frame of every stack, [world, pixel, 3 * frame], and append packed pixels."""
    world, pixel = warp.tid()
    older = stack.shape[2] - 3
    for channel in range(older):
        stack[world, pixel, channel] = stack[world, pixel, channel + 3]
    for colour in range(3):
        stack[world, pixel, older + colour] = _colour(packed[world, pixel], colour)


@warp.kernel(enable_backward=False)
def fill_frames(
    packed: warp.array2d(dtype=warp.uint32),
    fresh: warp.array(dtype=bool),
    stack: warp.array3d(dtype=warp.uint8),
) -> None:
    """Write packed pixels into every frame of the stacks of fresh worlds."""
    world, pixel = warp.tid()
    if fresh[world]:
        for channel in range(stack.shape[2]):
            stack[world, pixel, channel] = _colour(packed[world, pixel], channel % 3)
