"""Register agents by name: one registration gives configuration, agent and learner.

An agent is one file. Its class is registered where it is defined,

    @register_agent("mine", config=MyConfig)
    class MyAgent(nn.Module): ...

and `agent=mine` works on every command line: from a module of this package without further steps,
from any other module once it is imported. `MyConfig` derives from `AgentConfig`, states the meaning
and range of every key, and estimates the memory that its training takes. The learner is the one
that was registered for the nearest class that `MyConfig` derives from.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
from torch import nn

from hrl.agents.base import AgentConfig, AgentSpec, Learner, Policy, SavedPolicy

BuildLearner = Callable[[Any, AgentSpec, Any, list[str], int], Learner]
BuildPolicy = Callable[[Any, AgentSpec], SavedPolicy]
AgentClass = TypeVar("AgentClass", bound=Callable[..., Policy])
LearnerClass = TypeVar("LearnerClass", bound=Callable[..., Learner])
SCRIPTED = ("random", "zero")
"""Agents that do not learn; reports take methods of these names for reference scores."""


class UnknownAgentError(ValueError):
    """Report a name that no agent was registered under."""


@dataclass(frozen=True)
class AgentEntry:
    """Store the registration of one agent.

    Attributes:
        name: the agent's name.
        config: class of its hyperparameters.
        module: name of the module that registered it.
        build_policy: returns its policy, whose weights are still to be loaded, from its
            hyperparameters and the spec.
        build_learner: returns its learner from its hyperparameters, the spec, a vector environment,
            the names of its tasks and the control steps of an agent step; None for an agent that
            learns nothing.
        run_defaults: keys of the run whose defaults differ with this agent, as nested mappings.
        has_parts: whether it can be fine-tuned (see `hrl.agents.parts`).
    """

    name: str
    config: type[AgentConfig]
    module: str
    build_policy: BuildPolicy
    build_learner: BuildLearner | None = None
    run_defaults: Mapping[str, Any] = field(default_factory=dict)
    has_parts: bool = False


_ENTRIES: dict[str, AgentEntry] = {}
_LEARNERS: dict[type[AgentConfig], Callable[..., Learner]] = {}


class SavedModule:
    """Load a policy whose weights are those of one module.

    Args:
        policy: acts with the module's weights; often the module itself.
        module: takes the weights.
    """

    def __init__(self, policy: Policy, module: nn.Module) -> None:
        self.policy = policy
        self._module = module

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take the weights.

        Raises:
            RuntimeError: they are not this module's.
        """
        self._module.load_state_dict(weights)


class WithoutWeights:
    """Hold a policy that learns nothing and has nothing to load.

    Args:
        policy: acts as it is.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take nothing."""
        del weights


def register_learner(config: type[AgentConfig]) -> Callable[[LearnerClass], LearnerClass]:
    """Return a decorator that registers the class of a learner.

    It trains every agent whose configuration derives from `config`, and is made from (agent,
    config, spec, env, task_names, frames_per_step).

    Args:
        config: class of the hyperparameters that the learner reads.
    """

    def register(learner: LearnerClass) -> LearnerClass:
        _LEARNERS[config] = learner
        return learner

    return register


def register_agent(
    name: str,
    *,
    config: type[AgentConfig],
    run_defaults: Mapping[str, Any] | None = None,
) -> Callable[[AgentClass], AgentClass]:
    """Return a decorator that registers the class of an agent.

    The class is an `nn.Module` that is made from its configuration and an `AgentSpec`.

    Args:
        name: what `agent=NAME` chooses; the default of `config.name`.
        config: class of its hyperparameters.
        run_defaults: keys of the run whose defaults differ with this agent, as nested mappings.
    """

    def register(agent: AgentClass) -> AgentClass:
        def build_learner(
            config: Any,
            spec: AgentSpec,
            env: gym.vector.VectorEnv,
            task_names: list[str],
            frames_per_step: int,
        ) -> Learner:
            learner = _find_learner(type(config))
            return learner(agent(config, spec), config, spec, env, task_names, frames_per_step)

        def build_policy(config: Any, spec: AgentSpec) -> SavedPolicy:
            policy = agent(config, spec)
            assert isinstance(policy, nn.Module)
            return SavedModule(policy, policy.to(spec.device))

        register_entry(
            AgentEntry(
                name,
                config,
                agent.__module__,
                build_policy,
                build_learner,
                run_defaults or {},
                hasattr(agent, "parts"),
            )
        )
        return agent

    return register


def register_entry(entry: AgentEntry) -> None:
    """Register an agent that is built in another way than `register_agent` does it.

    Raises:
        ValueError: the name is taken by another module, or is not the default of `config.name`.
    """
    there = _ENTRIES.get(entry.name)
    if there is not None and there.module != entry.module:
        raise ValueError(
            f"agent {entry.name!r} of module {entry.module} has the name of one that module "
            f"{there.module} registered; choose another name"
        )
    if entry.config.name != entry.name:
        raise ValueError(
            f"agent {entry.name!r}: {entry.config.__name__}.name is {entry.config.name!r}; "
            f"it must be {entry.name!r}"
        )
    _ENTRIES[entry.name] = entry


def _find_learner(config: type[AgentConfig]) -> Callable[..., Learner]:
    """Return the learner of the nearest class that a configuration class derives from."""
    for base in config.__mro__:
        if base in _LEARNERS:
            return _LEARNERS[base]
    known = ", ".join(known.__name__ for known in _LEARNERS)
    raise UnknownAgentError(
        f"no learner trains agents with {config.__name__}; derive it from one of {known}, or "
        f"register a learner for it with register_learner"
    )


def registered_agents() -> dict[str, AgentEntry]:
    """Return all agents by name: those of this package, and those of modules imported so far."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "hrl.agents."):
        importlib.import_module(module.name)
    return dict(sorted(_ENTRIES.items()))


def find_agent(name: object) -> AgentEntry:
    """Return the agent that is registered under a name.

    Raises:
        UnknownAgentError: names the registered agents.
    """
    entries = registered_agents()
    if not isinstance(name, str) or name not in entries:
        raise UnknownAgentError(
            f"agent.name is {name!r}; choose from {', '.join(entries)}, or import the module that "
            f"registers it"
        )
    return entries[name]
