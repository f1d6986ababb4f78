"""Put a scene's model and its variants on a Warp device, and size what is simulated there."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import mujoco
import mujoco_warp
import numpy as np
import torch
import warp
from torch import Tensor

from envs.simulation.physics import Scene
from envs.simulation.renderer import start_warp

# Most contacts of a geom with a plane, by its type; others have as many as a box.
_CONTACTS = {
    int(mujoco.mjtGeom.mjGEOM_SPHERE): 1,
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): 2,
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): 1,
}
_CONTACTS_OF_A_BOX = 4
# Most surfaces that one geom touches among walls: the floor and four boxes around a corner.
_SURFACES = 5
_PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)
# Rows of an equality constraint, by its type; others have one.
_EQUALITY_ROWS = {int(mujoco.mjtEq.mjEQ_CONNECT): 3, int(mujoco.mjtEq.mjEQ_WELD): 6}


@cache
def why_not_warp(scene: Scene) -> str | None:
    """Return why MuJoCo Warp cannot simulate a scene as MuJoCo does, or None where it can."""
    model = scene.model
    if scene.remodel is not None:
        what = "terrain that differs" if model.nhfield else "a model that differs"
        return f"it has {what} from episode to episode"
    if model.opt.noslip_iterations:
        return f"it has {model.opt.noslip_iterations} noslip iterations"
    start_warp()
    try:
        put_model(model)
    except (NotImplementedError, ValueError) as error:
        return str(error)
    return None


def put_model(model: mujoco.MjModel) -> mujoco_warp.Model:
    """Put a model on Warp's current device.

    Between some shapes, such as the quadruped's capsules and the cylinders of its eyes, MuJoCo Warp
    makes one contact where MuJoCo may make more; it warns of this, the documentation says it once.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "MULTICCD is enabled")
        return mujoco_warp.put_model(model)


class PerWorld:
    """Hold one field of a Warp model that differs between variants, with a row for each world.

    Args:
        owner: the Warp model, or its options or statistics.
        name: of the field, which gets an array of its own.
        table: [variant, ...], the field's values.
        num_worlds: number of worlds, which all get the first variant's.
    """

    def __init__(self, owner: Any, name: str, table: Tensor, num_worlds: int) -> None:
        shared = getattr(owner, name)
        own = warp.empty((num_worlds, *shared.shape[1:]), dtype=shared.dtype)
        setattr(owner, name, own)
        self._table = table
        self.rows: Tensor = warp.to_torch(own)
        self.rows.copy_(table[:1].expand_as(self.rows))

    def choose(self, mask: Tensor, variants: Tensor) -> None:
        """Give the worlds in `mask` the values of their variants, int64 [world]."""
        write_rows(self.rows, mask, self._table.index_select(0, variants))


def write_rows(target: Tensor, mask: Tensor, rows: Tensor) -> None:
    """Copy the rows of the worlds in `mask`, on the device and without waiting for it."""
    chosen = mask.view(-1, *[1] * (target.ndim - 1))
    target.copy_(torch.where(chosen, rows.to(target.dtype), target))


def put_variants(
    models: Sequence[mujoco.MjModel], num_worlds: int
) -> tuple[mujoco_warp.Model, list[PerWorld]]:
    """Put a model on Warp's current device, with a row for each world where variants differ.

    Raises:
        ValueError: variants differ in a field that all worlds share; the message names it.
    """
    parts = [put_model(model) for model in models]
    # An overflow is reported by us; printing it from a kernel would print it for every world.
    parts[0].opt.warn_overflow = 0
    own = []
    for attribute in ("", "opt", "stat"):
        owners = [getattr(part, attribute) if attribute else part for part in parts]
        for name, is_per_world, arrays in _arrays(owners):
            if all(torch.equal(array, arrays[0]) for array in arrays[1:]):
                continue
            if not is_per_world:
                raise ValueError(
                    f"variants differ in {name}, which all worlds share in physics=warp; "
                    "physics=mujoco can simulate them"
                )
            own.append(PerWorld(owners[0], name, torch.cat(arrays), num_worlds))
    return parts[0], own


def _arrays(owners: Sequence[Any]) -> Iterator[tuple[str, bool, list[Tensor]]]:
    """Yield the name of every array, whether worlds may have their own, and all its values."""
    for field in dataclasses.fields(owners[0]):
        values = [getattr(owner, field.name) for owner in owners]
        if all(isinstance(value, warp.array) and value.size for value in values):
            shape: Any = getattr(field.type, "shape", ())
            yield (
                field.name,
                shape[:1] == ("*",),
                [warp.to_torch(value) for value in values],
            )


def capacity(model: mujoco.MjModel) -> tuple[int, int]:
    """Return room for the contacts and for the rows of constraints of one world.

    Every geom of a moving body may lie on the floor, and on walls where there are any, and touch
    another geom of a moving body. All limits, equalities and frictions may be active.
    """
    moving = (model.body_weldid != 0) & (model.body_mocapid[model.body_rootid] < 0)
    touches = (model.geom_contype | model.geom_conaffinity) != 0
    moves = moving[model.geom_bodyid] & touches
    has_walls = bool((touches & ~moves & (model.geom_type != _PLANE)).any())
    enabled = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
    most = [_CONTACTS.get(int(kind), _CONTACTS_OF_A_BOX) for kind in model.geom_type[moves]]
    contacts = enabled * ((_SURFACES if has_walls else 1) * sum(most) + len(most) + model.npair)
    size = int(model.geom_condim[touches].max()) if touches.any() else 1
    pyramid = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL and size > 1
    equalities = sum(_EQUALITY_ROWS.get(int(kind), 1) for kind in model.eq_type)
    limits = int(model.jnt_limited.sum()) + int(model.tendon_limited.sum())
    friction = int((model.dof_frictionloss > 0).sum() + (model.tendon_frictionloss > 0).sum())
    rows = contacts * (2 * (size - 1) if pyramid else size) + equalities + limits + friction
    # The pairs of geoms whose bounding boxes overlap share the room of contacts.
    return max(8, 2 * contacts), max(8, rows)


def world_bytes(model: mujoco.MjModel, image_size: int) -> int:
    """Return the bytes that simulating and drawing one more world takes, without its frame stack.

    The arrays of one and of two worlds are made on the CPU and compared.
    """
    start_warp()
    contacts, rows = capacity(model)
    one, two = (
        _array_bytes(mujoco_warp.make_data(model, worlds, nconmax=contacts, njmax=rows))
        for worlds in (1, 2)
    )
    # Per geom: its box, twice, and two nodes of the tree. Per pixel: packed and unpacked.
    drawing = model.ngeom * 96 + image_size**2 * 7
    return two - one + int(drawing)


def _array_bytes(node: Any) -> int:
    total = 0
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, warp.array):
            total += int(np.prod(value.shape)) * warp.types.type_size_in_bytes(value.dtype)
        elif dataclasses.is_dataclass(value):
            total += _array_bytes(value)
    return total
