"""Make environments of the family `gym`: any that Gymnasium knows by id and that draws images."""

import difflib
import pickle
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any
from zlib import crc32

import gymnasium
import mujoco
import numpy as np
import yaml
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces.utils import flatdim
from jaxtyping import Float32
from typing_extensions import override

from envs.external.actions import action_size, chooses
from envs.external.camera import CameraView, NamedView, own_view
from envs.external.env import ExternalEnv
from envs.external.family import (
    OWN_START,
    ExternalFamily,
    Text,
    UnplayableEnvError,
    install_command,
    require_package,
    text,
)
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.families.family import Choice, Parameter
from envs.tasks import Task

PREFIX = "gym/"
# Optional packages that register environments of their own when they are imported.
PACKAGES = ("gymnasium_robotics", "ogbench", "metaworld")
DEFAULT_LENGTH = 1000
DEFAULT_REFERENCE = 1000.0


def read_arguments(written: str) -> dict[str, Any]:
    """Read the arguments of an environment's constructor from a YAML mapping.

    Raises:
        ValueError: the text is not a YAML mapping with string keys.
    """
    try:
        arguments = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise ValueError(f"{written!r} is not YAML: {error}") from error
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise ValueError(
            f"must be a YAML mapping such as '{{}}' or '{{reward_type: dense}}', got {written!r}"
        )
    return arguments


class GymnasiumId(ExternalFamily):
    """Play one environment a task, known by its Gymnasium id.

    Task vector: a single 1; what tells the tasks apart must be in the images. Success: what the
    environment reports of it. An environment whose observation is a Dict is refused with
    `observation=pixels`, because agents would see none of its entries. State: its own observation,
    where that is vectors or numbers.

    Parameters of a task:

    * `id`: as for `gymnasium.make`, "module:Name-v0" included;
    * `kwargs`: a YAML mapping of further arguments;
    * `render`: `ray` draws MuJoCo's models with our ray tracer, `opengl` takes what the environment
      draws, by whatever means, `auto` is `ray` where the environment has a MuJoCo model;
    * `camera`: a camera of the model, or empty for the environment's own view.
    """

    description = FamilyDescription(
        body="an environment that is registered with Gymnasium",
        goal="Do what the environment rewards; its own documentation says what that is.",
        image="What the environment draws, or our ray tracer's image of its MuJoCo model.",
        task_vector="A single 1: what tells tasks apart must be in the image.",
        rewards={"": r"r = r_{\text{environment}}"},
        symbols="The reward is the environment's own.",
        success="The environment reports `success` or `is_success`.",
        start=OWN_START,
        state="The environment's own observation, flattened.",
    )
    parameters: Mapping[str, Parameter | Text] = MappingProxyType(
        {
            "id": Text(str),
            "kwargs": Text(read_arguments),
            "render": Choice(("auto", "ray", "opengl")),
            "camera": Text(str),
        }
    )
    task_size = 1

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return np.ones(1, np.float32)

    @override
    def action_size(self, task: Task) -> int:
        return action_size(_spaces(text(task, "id"), text(task, "kwargs"))[0])

    @override
    def state_size(self, task: Task) -> int:
        space = _spaces(text(task, "id"), text(task, "kwargs"))[1]
        return flatdim(space) if _is_vector(space) else 0

    @override
    def check_pixels(self, task: Task) -> None:
        name = text(task, "id")
        space = _spaces(name, text(task, "kwargs"))[1]
        if isinstance(space, spaces.Dict):
            entries = ", ".join(map(repr, space))
            raise UnplayableEnvError(
                f"environment {name!r} observes a Dict of {entries}, which agents would not see: "
                "they get the rendered image alone; choose observation=state or both, or register "
                "it with a wrapper whose observation is no Dict if the image is enough"
            )

    @override
    def is_discrete(self, task: Task) -> bool:
        return chooses(_spaces(text(task, "id"), text(task, "kwargs"))[0])

    @override
    def check(self, task: Task) -> None:
        self.registrations(task)

    @override
    def registrations(self, task: Task) -> tuple[EnvSpec, ...]:
        """Return Gymnasium's record of the id, unless the id names the module that registers it."""
        name = text(task, "id")
        spec = find(name)
        return () if ":" in name or not _is_carried(spec) else (spec,)

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        render = text(task, "render")
        camera = text(task, "camera")
        if render != "opengl":
            env = _make(text(task, "id"), text(task, "kwargs"))
            if mujoco_state(env) is not None:
                return ExternalEnv(env, RayTracedRenderer(lambda: _state(env), _view(env, camera)))
            env.close()
            if render == "ray":
                raise ValueError(
                    "it has no MuJoCo model to draw with render: ray; use opengl or auto"
                )
        drawn = _make(text(task, "id"), text(task, "kwargs"), "rgb_array", camera)
        return ExternalEnv(drawn, OwnRenderer(drawn))


def find(name: str) -> EnvSpec:
    """Return Gymnasium's record of an environment's id.

    Raises:
        ValueError: there is none; the message has the closest ids and, where it may come with a
            package that is not installed, the command that installs it.
    """
    module, _, own = name.rpartition(":")
    if module:
        _register(module, name)
    if own in gymnasium.registry:
        return gymnasium.spec(own)
    for package in PACKAGES:
        if find_spec(package) is not None:
            require_package(package)
    try:
        return gymnasium.spec(own)
    except gymnasium.error.Error as error:
        raise ValueError(f"Gymnasium knows no environment {name!r}{_advice(own, error)}") from error


def suite_of(name: str) -> dict[str, Any]:
    """Return a suite of one registered environment, as plain data: `suite=gym/ID`.

    Its time limit is the registered one and its reference return the registered threshold; either
    is 1000 where there is none.

    Raises:
        ValueError: Gymnasium does not know the id.
    """
    spec = find(name)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    reference = DEFAULT_REFERENCE if spec.reward_threshold is None else float(spec.reward_threshold)
    task = {
        "name": safe,
        "family": "gym",
        "parameters": {"id": name, "kwargs": "{}", "render": "auto", "camera": ""},
        "episode_length": spec.max_episode_steps or DEFAULT_LENGTH,
        "evaluation_seed": crc32(name.encode()),
    }
    own = {
        "name": f"gym_{safe}",
        "action_repeat": 1,
        "reference_return": reference,
        "parameter": "id",
    }
    return own | {"splits": {"train": [task]}}


def modules_named(suite: object) -> list[str]:
    """Return the modules that ids in a suite's plain data name, which making it would import.

    The data may be of any form, because it is not checked yet.
    """
    own: list[str] = []
    below: Iterable[object] = suite if isinstance(suite, list) else ()
    if isinstance(suite, Mapping):
        parameters = suite.get("parameters")
        name = parameters.get("id") if isinstance(parameters, Mapping) else None
        own = [name.rpartition(":")[0]] if isinstance(name, str) and ":" in name else []
        below = suite.values()
    return list(dict.fromkeys([*own, *(found for part in below for found in modules_named(part))]))


def _is_carried(spec: EnvSpec) -> bool:
    """Return whether a record is sent to workers; libraries' own functions are theirs to register.

    Raises:
        ValueError: it is the user's, and a worker could not import what it names.
    """
    try:
        if b"__main__" not in pickle.dumps(spec):
            return True
    except (pickle.PicklingError, AttributeError, TypeError):
        library = getattr(spec.entry_point, "__module__", "").partition(".")[0]
        if library in (*PACKAGES, "gymnasium"):
            return False
    raise ValueError(
        f"environment {spec.id!r} is registered with something that worker processes cannot import "
        f"({spec.entry_point}): register it in a module and name it {PREFIX}MODULE:{spec.id}"
    )


def mujoco_state(env: gymnasium.Env[Any, Any]) -> tuple[mujoco.MjModel, mujoco.MjData] | None:
    """Return an environment's MuJoCo model and data; None where it has none."""
    model = getattr(env.unwrapped, "model", None)
    data = getattr(env.unwrapped, "data", None)
    if isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData):
        return model, data
    return None


def _register(module: str, name: str) -> None:
    try:
        import_module(module)
    except Exception as error:  # of the module, or of a name that is none
        raise ValueError(
            f"the module {module!r} of environment {name!r} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _advice(name: str, error: Exception) -> str:
    close = difflib.get_close_matches(name, gymnasium.registry, n=5, cutoff=0.5)
    near = f"; close are {', '.join(close)}" if close else ""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    more = ""
    if missing:
        more = f" (not installed: {', '.join(missing)}; {install_command(*missing)})"
    reason = "" if isinstance(error, gymnasium.error.UnregisteredEnv) else f": {error}"
    return reason + near + more


@cache
def _spaces(name: str, arguments: str) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Return actions and observations of an environment, which is made once to look at them."""
    env = _make(name, arguments)
    try:
        action_size(env.action_space)  # raises an error where agents cannot play it
        return env.action_space, env.observation_space
    except ValueError as error:
        raise UnplayableEnvError(f"environment {name!r}: {error}") from error
    finally:
        env.close()


def _make(
    name: str, arguments: str, render_mode: str | None = None, camera: str = ""
) -> gymnasium.Env[Any, Any]:
    find(name)
    further: dict[str, Any] = read_arguments(arguments) | (
        {"camera_name": camera} if camera else {}
    )
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            name, render_mode=render_mode, disable_env_checker=True, **further
        )
    except Exception as error:
        raise UnplayableEnvError(
            f"environment {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    return env


def _is_vector(space: gymnasium.Space[Any]) -> bool:
    """Return whether an observation is numbers, vectors, or a Dict or Tuple of them: no image."""
    if isinstance(space, spaces.Dict):
        return all(map(_is_vector, space.values()))
    if isinstance(space, spaces.Tuple):
        return all(map(_is_vector, space))
    discrete = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, discrete) or (isinstance(space, spaces.Box) and len(space.shape) < 2)


def _state(env: gymnasium.Env[Any, Any]) -> tuple[mujoco.MjModel, mujoco.MjData]:
    state = mujoco_state(env)
    assert state is not None
    return state


def _view(env: gymnasium.Env[Any, Any], camera: str) -> CameraView:
    model, data = _state(env)
    if not camera:
        return own_view(env.unwrapped, model, data)
    view = NamedView(camera)
    view.fovy(model)  # raises an error now where there is no such camera
    return view
