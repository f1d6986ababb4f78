"""Fine-tune: learn a novel task from a run's checkpoint, with chosen parts frozen or made anew.

A fine-tuning run is a run like any other. Its configuration is the source's, with another suite
whose training tasks are the novel ones, and with the record `finetune`: what it started from, by
the hash of its checkpoint, and what is done to each part. Optimiser state, replay and counters
begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import OverrideType

from envs import Suite, Task, load_suite
from envs.families.family import TaskFamily
from envs.families.mixed import MixedFamily
from hrl.agents.base import Learner
from hrl.agents.parts import (
    ALIASES,
    FROZEN,
    REINITIALISED,
    STATES,
    FineTunable,
    FinetuneConfig,
    Parts,
    freeze,
    presets,
    take_parts,
)
from hrl.config import GROUPS, ComposedConfig, ConfigError, from_saved
from hrl.config_field import ConfigValueError
from hrl.overrides import OverrideError, check_overrides, parse_override
from hrl.run.distributed import is_first_process
from hrl.run.errors import CheckpointError
from hrl.run.finetune_source import FinetuneSource, read_source
from hrl.run.folder import RunFolder
from hrl.run.forgetting import check_memory, measure_forgetting
from hrl.run.train import train

FRAMES = 100_000
"""Control steps of a fine-tuning run, unless frames=N says otherwise."""
MOST_NAMED = 12
"""Tasks of a split that a message names."""
OWN_KEYS = ("from", "task", "suite", "parts")
"""Keys of a command line that say what is learned from which run; the others are the new run's."""
INHERITED = (
    *("agent.name", "network", "observation", "frame_stack", "image_size"),
    *("imports", "finetune"),
)
"""Keys of the source that a fine-tuning run cannot change."""


@dataclass(frozen=True)
class FinetuneRequest:
    """Hold what a user asks for.

    Attributes:
        source: folder of the run to start from.
        task: a task of the suite, or a split: all its tasks.
        suite: name of the suite; None for the source's.
        preset: of the parts.
        parts: states of single parts that differ from the preset's.
        overrides: KEY=VALUE of the run, such as frames=50_000.
    """

    source: Path
    task: str
    suite: str | None = None
    preset: str = "all"
    parts: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()


def read_request(arguments: Sequence[str]) -> FinetuneRequest:
    """Return what KEY=VALUE arguments ask for.

    Raises:
        ConfigError: no source or no task, a key that is given twice, or an argument that is not
            one KEY=VALUE of one run.
    """
    try:
        check_overrides(arguments, "pixel-hrl finetune")
    except OverrideError as error:
        raise ConfigError(str(error)) from error
    own: dict[str, str] = {}
    overrides = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in OWN_KEYS and not key.startswith("parts."):
            overrides.append(argument)
        elif key in own:
            raise ConfigError(f"{key} is given twice: {key}={own[key]} and {argument}")
        else:
            own[key] = value.strip("\"'")
    for key, meaning in (("from", "the folder of a run"), ("task", "a task or split of the suite")):
        if not own.get(key):
            raise ConfigError(f"give {key}=..., {meaning} (pixel-hrl finetune --help)")
    return FinetuneRequest(
        source=Path(own["from"]),
        task=own["task"],
        suite=own.get("suite"),
        preset=own.get("parts", "all"),
        parts={
            key.removeprefix("parts."): value
            for key, value in own.items()
            if key.startswith("parts.")
        },
        overrides=overrides,
    )


def finetune(request: FinetuneRequest, command: str) -> Path:
    """Start or continue a fine-tuning run; return its folder.

    When the budget is spent, the source's training tasks are played by the policy as it was before
    and by the one after, into forgetting.csv.

    Args:
        request: what the user asks for.
        command: what the user typed, for the record.

    Raises:
        ConfigError: a part, preset, task, suite or key that cannot be; a source that cannot be
            fine-tuned, or whose observations or actions are others; nothing was written.
        ConfigMismatchError: the folder holds another run, or one of another source or other parts.
        CheckpointError: the source's checkpoint does not fit its agent, or is not whole.
        Exception: as `hrl.run.train.train`.
    """
    source = read_source(request.source)
    composed = compose_finetune(request, source)
    record = composed.config.finetune
    assert record is not None
    check_memory(composed.config, source.suite)

    def prepare(learner: Learner) -> None:
        _start_from(source, record, learner)

    folder = train(composed, command, prepare)
    if is_first_process():
        measure_forgetting(source, RunFolder(folder))
    return folder


def compose_finetune(request: FinetuneRequest, source: FinetuneSource) -> ComposedConfig:
    """Return the configuration of a fine-tuning run: the source's, with the task and the record.

    Raises:
        ConfigError: something of the request cannot be; the message has the valid choices.
    """
    suite = target_suite(request, source.suite)
    refuse_misfit(source.suite, suite)
    preset = ALIASES.get(request.preset, request.preset)
    states = part_states(source, preset, request.parts)
    record = FinetuneConfig(
        source=str(source.folder),
        source_sha256=source.sha256,
        source_frames=source.policy.frames,
        source_method=source.composed.config.method,
        source_suite=source.suite.name,
        source_reference_return=source.suite.reference_return,
        target=request.task,
        preset=_label(preset, states, source.parts),
        parts=states,
    )
    composed = from_saved(_plain(request, source, suite, record))
    try:
        composed.config.agent.check_parts(states)
    except ConfigValueError as error:
        raise ConfigError(str(error.within("agent"))) from error
    return composed


def part_states(
    source: FinetuneSource, preset: str, overrides: Mapping[str, str]
) -> dict[str, str]:
    """Return what is done to each part of the source's agent.

    Raises:
        ConfigError: an unknown preset, part or state, or nothing that learns.
    """
    agent = source.composed.config.agent.name
    known = presets(source.parts)
    if preset not in known:
        names = [*known, *(alias for alias, name in ALIASES.items() if name in known)]
        raise ConfigError(
            f"parts is {preset!r}; agent {agent} has the parts {', '.join(source.parts)} and the "
            f"presets {', '.join(sorted(names))}"
        )
    for name, state in overrides.items():
        if name not in source.parts:
            raise ConfigError(
                f"parts.{name}: agent {agent} has no such part; its parts are "
                f"{', '.join(source.parts)}"
            )
        if state not in STATES:
            raise ConfigError(f"parts.{name} is {state!r}; choose from {', '.join(STATES)}")
    states = {**known[preset], **overrides}
    if set(states.values()) == {FROZEN}:
        raise ConfigError(f"every part of {', '.join(states)} is frozen: nothing would learn")
    return states


def target_suite(request: FinetuneRequest, source: Suite) -> Suite:
    """Return the suite that has the novel tasks as its training split.

    A suite of several bodies keeps its other tasks too, as the split `others`.

    Args:
        request: names the task or split, and the suite unless it is the source's.
        source: the suite of the run to start from.

    Raises:
        ConfigError: there is no such suite, or it has neither a task nor a split of this name.
    """
    try:
        suite = source if request.suite is None else load_suite(request.suite)
        suite.check_installed()
    except ValueError as error:
        raise ConfigError(f"suite: {error}") from error
    named = [task for task in suite.all_tasks if task.name == request.task]
    chosen = suite.splits.get(request.task, tuple(named))
    if not chosen:
        tasks = "; ".join(f"{split}: {_listed(some)}" for split, some in suite.splits.items())
        raise ConfigError(
            f"task is {request.task!r}; suite {suite.name} has no such split or task (it has "
            f"{tasks}); for a task of another suite add suite=NAME"
        )
    return replace(suite, splits={**_others(suite, chosen), "train": chosen})


def refuse_misfit(source: Suite, target: Suite) -> None:
    """Refuse a suite whose observations or actions have other sizes than the source's."""
    sizes = {
        "actions": (source.action_size, target.action_size),
        "the task vector": (source.task_size, target.task_size),
    }
    different = [
        f"{name} of {old} numbers there and {new} here"
        for name, (old, new) in sizes.items()
        if old != new
    ]
    if not different and _bodies(source) != _bodies(target):
        different = ["the task vector names other bodies"]
    if different:
        raise ConfigError(
            f"a policy of suite {source.name} does not fit suite {target.name}: "
            f"{'; '.join(different)}"
        )


# Private functions.


def _start_from(source: FinetuneSource, record: FinetuneConfig, learner: Learner) -> None:
    """Give a new learner the parts of the source, and freeze those that are to be.

    Raises:
        CheckpointError: the source's weights are not of this agent.
    """
    assert isinstance(learner, FineTunable)
    try:
        take_parts(learner, source.state(learner.saved_modules()), record.parts)
    except (KeyError, RuntimeError) as error:  # another version of the agent, or other sizes
        reason = " ".join(str(error).split())
        reason = f"it does not fit this agent: {reason}"
        raise CheckpointError(source.policy.path, reason) from error
    freeze(learner.parts(), record.parts)


def _listed(tasks: Sequence[Task]) -> str:
    """Return the names of tasks for a message, the first ones of many."""
    names = [task.name for task in tasks[:MOST_NAMED]]
    more = len(tasks) - len(names)
    return ", ".join([*names, f"{more} more"] if more else names)


def _others(suite: Suite, chosen: Sequence[Task]) -> dict[str, tuple[Task, ...]]:
    """Return the other tasks of a suite of several bodies, which its task vector tells apart."""
    rest = tuple(task for task in suite.all_tasks if task not in chosen)
    return {"others": rest} if suite.mixed and rest else {}


def _bodies(suite: Suite) -> list[TaskFamily]:
    """Return the bodies that the task vector tells apart, in its order; none for a single body."""
    family = suite.family
    return family.families if isinstance(family, MixedFamily) else []


def _label(preset: str, states: Mapping[str, str], parts: Parts) -> str:
    """Return the name of a preset with the parts that differ from it, for reports."""
    usual = presets(parts)[preset]
    differing = [f"{name}-{state}" for name, state in states.items() if state != usual[name]]
    return "-".join([preset, *differing])


def _plain(
    request: FinetuneRequest, source: FinetuneSource, suite: Suite, record: FinetuneConfig
) -> dict[str, Any]:
    """Return the plain configuration of the run."""
    plain = deepcopy(source.composed.plain)
    evaluation = plain["evaluation"]
    evaluation["every"] = None  # the schedule follows the new budget
    plain |= {
        "suite": suite.to_dict(),
        "finetune": asdict(record),
        "method": f"{record.source_method}-{record.preset}",
        "frames": FRAMES,
        "checkpoint_every": None,
        "folder": "",
    }
    # A world model that is there already has no need to learn alone first.
    if record.parts.get("world_model", REINITIALISED) != REINITIALISED:
        plain["agent"]["actor_critic_start"] = 0
    plain, given = _overridden(plain, request.overrides)
    if "evaluation.episodes" not in given:
        # A single episode now and then says little of one task.
        plain["evaluation"]["episodes"] = plain["evaluation"]["final_episodes"]
    plain["folder"] = plain["folder"] or (
        f"runs/{suite.name}/finetune/{record.target}/{plain['method']}/seed_{plain['seed']}"
    )
    return plain


def _overridden(plain: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Return a plain configuration with KEY=VALUE arguments applied, and the keys they set.

    A mapping changes the keys that it names and leaves its others, as it does for `train`.

    Raises:
        ConfigError: a key that is unknown or that the source decides.
    """
    changed = deepcopy(plain)
    given: set[str] = set()
    for override in map(parse_override, overrides):
        key = override.key_or_group
        if key in GROUPS or any(key == name or key.startswith(f"{name}.") for name in INHERITED):
            raise ConfigError(f"{key} cannot be given: it is that of the run to start from")
        if override.type != OverrideType.CHANGE:
            raise ConfigError(f"{override.input_line}: give KEY=VALUE")
        given |= _set(changed, key, override.value(), str(override.input_line))
    return changed, given


def _set(changed: dict[str, Any], key: str, value: Any, line: str) -> set[str]:
    """Set a key of a plain configuration, those of a mapping one by one; return what was set."""
    *path, name = key.split(".")
    node: Any = changed
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in node:
        valid = sorted(node if isinstance(node, dict) else changed)
        raise ConfigError(f"{line}: unknown key; choose from {', '.join(valid)}")
    if isinstance(node[name], dict):
        if not isinstance(value, dict):
            raise ConfigError(f"{line}: give a mapping of {', '.join(sorted(node[name]))}")
        parts = [_set(changed, f"{key}.{own}", one, line) for own, one in value.items()]
        return set().union(*parts)
    node[name] = value
    return {key}
