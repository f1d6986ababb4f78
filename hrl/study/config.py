"""Define what a study is: the methods, suites, seeds and budgets of `configs/study/NAME.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.resources import config_files
from hrl.config import MAX_SEED, ConfigError, check_path_name, check_tree, in_one_line, schema
from hrl.config_field import CheckedConfig, ConfigValueError, config_field, join_key
from hrl.overrides import parse_override

EXECUTORS = ("local", "slurm", "ray")
BASELINES = ("random", "zero")
GROUP = "study"
"""The folder of the experiments in `configs/`, and in the folders that a user adds."""


@dataclass(frozen=True)
class MethodConfig(CheckedConfig):
    """Configure one column of a study: a method, or a control that takes a claim apart."""

    overrides: list[str] = config_field(
        default_factory=list, help="KEY=VALUE of its runs, such as agent=skills"
    )
    suites: list[str] = config_field(
        default_factory=list, help="suites of the study that it is trained on; empty for all"
    )
    seeds: int | None = config_field(
        None, "how many of the study's seeds, the first ones; null for all", at_least=1
    )
    frames: int | None = config_field(
        None, "control steps of its runs; null for the study's", at_least=1
    )
    note: str = config_field("", "what the method is there for, shown in the plan")


@dataclass(frozen=True)
class FinetuningConfig(CheckedConfig):
    """Configure fine-tuning runs: from every run of some methods to tasks, by presets of parts."""

    methods: list[str] = config_field(
        default_factory=list, help="methods whose runs it starts from; empty for all methods"
    )
    from_suites: list[str] = config_field(
        default_factory=list, help="suites of the runs that it starts from; empty for all"
    )
    suite: str = config_field(
        "", "another suite of the same observations and actions; empty for the run's own"
    )
    tasks: list[str] = config_field(
        default_factory=list, help="tasks of that suite, or splits for all tasks of each"
    )
    parts: list[str] = config_field(
        default_factory=lambda: ["all"],
        help="presets of `pixel-hrl finetune`, one run each; further arguments follow after spaces",
    )
    frames: int = config_field(100_000, "control steps of each run", at_least=1)
    seeds: int | None = config_field(
        None, "how many of the study's seeds, the first ones; null for all", at_least=1
    )

    def check_together(self) -> None:
        """Refuse fine-tuning to nothing."""
        for key in ("tasks", "parts"):
            if not getattr(self, key):
                raise ConfigValueError(key, getattr(self, key), "it must name at least one")
        if not all(map(str.split, self.parts)):
            raise ConfigValueError("parts", self.parts, "each must name a preset")


@dataclass(frozen=True)
class StudyEvaluationConfig(CheckedConfig):
    """Say how the finished runs are evaluated."""

    episodes: int = config_field(
        10, "episodes per task; 50 for tables of results", at_least=1, at_most=10_000
    )
    splits: list[str] = config_field(
        default_factory=list, help="splits to play; empty for all of each suite"
    )
    videos: int = config_field(
        1, "training tasks that a video of each run is recorded of", at_least=0
    )
    baselines: list[str] = config_field(
        default_factory=lambda: list(BASELINES),
        help="policies that learn nothing, evaluated beside the methods",
        choices=BASELINES,
    )


@dataclass(frozen=True)
class ResourcesConfig(CheckedConfig):
    """Say what one cell takes."""

    cores: int = config_field(1, "processor cores of a cell, its `threads`", at_least=1)
    gpus: int | None = config_field(
        None,
        "GPUs of a cell; null for one where this machine has any and executor=local, else none. "
        "With more than one, torchrun trains each run by as many processes, which share its "
        "environments and cores; evaluations take one",
        at_least=0,
        at_most=1024,
    )
    memory_gib: float | None = config_field(
        None, "memory of a cell in GiB; null for the estimate that the plan shows", above=0
    )


@dataclass(frozen=True)
class LocalConfig(CheckedConfig):
    """Limit the pool of executor=local."""

    cores: int | None = config_field(
        None, "cores to use; null for those that this process may use", at_least=1
    )
    gpus: int | None = config_field(
        None, "GPUs to use, the first ones; null for all of this machine", at_least=0
    )
    memory_gib: float | None = config_field(
        None, "memory to use in GiB; null for nine tenths of what is free", above=0
    )


@dataclass(frozen=True)
class SlurmConfig(CheckedConfig):
    """Say what executor=slurm asks the cluster for."""

    partition: str = config_field("", "partition; empty for the cluster's default")
    account: str = config_field("", "account; empty for the user's default")
    minutes: int = config_field(
        240,
        "time limit of a job. A cell that needs more is saved before it and continues in another",
        at_least=5,
    )
    parallel: int = config_field(64, "cells of an array that run at once", at_least=1)
    warning_seconds: int = config_field(
        120, "seconds before the end at which the cluster asks a job to save", at_least=10
    )
    setup: list[str] = config_field(
        default_factory=list, help="shell commands before each job, such as module load cuda"
    )
    parameters: dict[str, str] = config_field(
        default_factory=dict, help="further options of sbatch by their name, such as {qos: low}"
    )


@dataclass(frozen=True)
class RayConfig(CheckedConfig):
    """Say which cluster executor=ray uses."""

    address: str = config_field(
        "auto", "of the cluster; auto for the one that this machine belongs to"
    )
    retries: int = config_field(
        20, "times that a cell is started anew after its node was lost", at_least=0
    )


@dataclass(frozen=True)
class StudyConfig(CheckedConfig):
    """Configure a study: what is trained, how it is evaluated, and where it runs."""

    name: str = config_field("", "of the experiment, its file's")
    description: str = config_field("", "the question, in a sentence or two")
    folder: str = config_field("", "where everything is written; empty for runs/NAME")
    suites: list[str] = config_field(default_factory=list, help="suites that runs are trained on")
    seeds: list[int] = config_field(
        default_factory=lambda: [0, 1, 2], help="seeds of the runs", at_least=0, at_most=MAX_SEED
    )
    frames: int = config_field(1_000_000, "control steps of each run", at_least=1)
    overrides: list[str] = config_field(
        default_factory=list, help="KEY=VALUE of every run, those of random actions included"
    )
    methods: dict[str, MethodConfig] = config_field(
        default_factory=dict, help="the methods that are compared, by name"
    )
    controls: dict[str, MethodConfig] = config_field(
        default_factory=dict, help="methods that say what a difference comes from, by name"
    )
    finetuning: dict[str, FinetuningConfig] = config_field(
        default_factory=dict, help="fine-tuning runs, by name"
    )
    evaluation: StudyEvaluationConfig = config_field(
        default_factory=StudyEvaluationConfig, help="how finished runs are evaluated"
    )
    reuse: list[str] = config_field(
        default_factory=lambda: ["runs"],
        help="folders in which finished runs of other studies are looked for; empty for none",
    )
    rate_seconds: float = config_field(
        20.0,
        "seconds of training by which speed is measured where no run has shown it yet; 0 to leave "
        "hours unknown",
        at_least=0,
    )
    executor: str = config_field("local", "where cells run", choices=EXECUTORS)
    resources: ResourcesConfig = config_field(
        default_factory=ResourcesConfig, help="what a cell takes"
    )
    local: LocalConfig = config_field(default_factory=LocalConfig, help="limits of executor=local")
    slurm: SlurmConfig = config_field(default_factory=SlurmConfig, help="of executor=slurm")
    ray: RayConfig = config_field(default_factory=RayConfig, help="of executor=ray")

    def check_together(self) -> None:
        """Refuse studies of nothing, and names that two things have or that nothing has."""
        for key in ("suites", "methods", "seeds"):
            if not getattr(self, key):
                raise ConfigValueError(key, getattr(self, key), "it must name at least one")
        named_once: dict[str, list[Any]] = {
            "suites": self.suites,
            "seeds": self.seeds,
            "evaluation.splits": self.evaluation.splits,
            "evaluation.baselines": self.evaluation.baselines,
        }
        for key, values in named_once.items():
            if len(set(values)) < len(values):
                raise ConfigValueError(key, values, "each may be named once")
        twice = sorted(self.methods.keys() & {*self.controls, *self.evaluation.baselines})
        twice += sorted(self.controls.keys() & set(self.evaluation.baselines))
        if twice:
            raise ConfigValueError(
                "methods",
                twice[0],
                "a method, a control and a baseline cannot share a name: "
                "two cells would have the same folder",
            )
        self._check_names()

    @property
    def columns(self) -> dict[str, MethodConfig]:
        """Return the methods and the controls by name."""
        return {**self.methods, **self.controls}

    def _check_names(self) -> None:
        _refuse_own_keys("overrides", self.overrides, SET_BY_STUDY)
        for group in ("methods", "controls"):
            for name, method in getattr(self, group).items():
                _check_known(f"{group}.{name}.suites", method.suites, self.suites)
                _refuse_own_keys(f"{group}.{name}.overrides", method.overrides, SET_BY_STUDY)
        for name, tuning in self.finetuning.items():
            check_path_name("finetuning", name)
            _check_known(f"finetuning.{name}.methods", tuning.methods, list(self.columns))
            _check_known(f"finetuning.{name}.from_suites", tuning.from_suites, self.suites)
            for parts in tuning.parts:
                _refuse_own_keys(f"finetuning.{name}.parts", parts.split()[1:], SET_BY_FINETUNING)


SET_BY_STUDY = {
    "suite": "suites",
    "method": "the method's name",
    "seed": "seeds",
    "frames": "frames",
    "folder": "folder",
    "threads": "resources.cores",
}
"""Keys of a run that a study sets, and what sets them there."""
SET_BY_FINETUNING = {
    "from": "methods",
    "task": "tasks",
    "suite": "suite",
    "seed": "seeds",
    "frames": "frames",
    "folder": "folder",
    "threads": "resources.cores",
}
"""Keys of a fine-tuning run that a study sets, and what sets them there."""
NAMED = {"methods": MethodConfig, "controls": MethodConfig, "finetuning": FinetuningConfig}
"""Keys of a study that hold configurations by names of the user's."""


def load_study(name: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Return the study of an experiment's file, with KEY=VALUE arguments applied.

    Args:
        name: of a file in `configs/study`, or in a folder that the user added.
        overrides: such as `frames=1000` or `slurm.partition=gpu`.

    Raises:
        ConfigError: an unknown experiment or key, or a value out of its range; names the choices.
    """
    files = config_files(GROUP)
    if name not in files:
        raise ConfigError(f"experiment is {name!r}; choose from {', '.join(files)}")
    try:
        given = _as_mapping(OmegaConf.merge(_read(files[name]), {"name": name}))
        for override in map(parse_override, overrides):
            value = override.value()
            # Merging with nothing would change nothing; {} takes out what there is.
            OmegaConf.update(given, override.key_or_group, value, merge=value != {})
        _check_lists(given, StudyConfig)
        node = _as_mapping(OmegaConf.merge(_schema_for(given), given))
        check_tree(node)
        study = OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise ConfigError(f"experiment {name}: {_explain(error)}") from error
    assert isinstance(study, StudyConfig)
    return study if study.folder else replace(study, folder=f"runs/{name}")


def with_seeds(study: StudyConfig, count: int) -> StudyConfig:
    """Return the study with so many seeds: its first ones, counted on where it has fewer."""
    further = range(max(study.seeds) + 1, max(study.seeds) + 1 + count)
    return replace(study, seeds=[*study.seeds, *further][:count])


# Private functions.


def _read(path: Path) -> DictConfig:
    """Return what the file of an experiment says.

    Raises:
        ConfigError: it holds no YAML, or something else than keys with values.
    """
    try:
        return _as_mapping(OmegaConf.load(path))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} holds no experiment: {reason}") from error


def _as_mapping(node: Any) -> DictConfig:
    """Return a node; raise ValueError unless it is a mapping."""
    if not isinstance(node, DictConfig):
        raise ValueError("it must be keys with values")
    return node


def _schema_for(given: DictConfig) -> DictConfig:
    """Return the schema of a study with a node for each method that is named, to be filled in."""
    node = schema(StudyConfig)
    for group, config_class in NAMED.items():
        named = given.get(group)
        for name in named if isinstance(named, DictConfig) else ():
            node[group][name] = schema(config_class)
    return node


def _check_lists(given: Any, config_class: type, path: str = "") -> None:
    """Check that lists are lists of single values, which is where YAML is easily mistaken.

    Args:
        given: what a file and arguments say, of any kind.
        config_class: that it is to fill in.
        path: of its key.

    Raises:
        ConfigValueError: names the key, and how to write it.
    """
    if not isinstance(given, DictConfig):
        return
    for name, hint in get_type_hints(config_class).items():
        if name not in given or OmegaConf.is_interpolation(given, name):
            continue
        value, key = given.get(name), join_key(path, name)
        if name in NAMED and isinstance(value, DictConfig):
            for own in value:
                _check_lists(value[own], NAMED[name], join_key(key, str(own)))
        elif is_dataclass(hint):
            assert isinstance(hint, type)
            _check_lists(value, hint, key)
        elif get_origin(hint) is list:
            _check_list(key, value)


def _check_list(key: str, value: Any) -> None:
    if not isinstance(value, ListConfig):
        example = "[0, 1]" if key == "seeds" else '["..."]'
        raise ConfigValueError(key, value, f"it must be a list, such as {example}")
    elements = OmegaConf.to_container(value, resolve=False)
    assert isinstance(elements, list)
    for index, element in enumerate(elements):
        if element is None or isinstance(element, dict | list):
            advice = ", and KEY=VALUE has no colon" if key.endswith("overrides") else ""
            rule = f"it must be a single value; put text in quotes{advice}"
            raise ConfigValueError(f"{key}[{index}]", element, rule)


def _refuse_own_keys(key: str, overrides: Sequence[str], own: Mapping[str, str]) -> None:
    """Refuse overrides of keys that the study sets, which would be ignored or do harm."""
    for override in overrides:
        name = override.partition("=")[0].lstrip("+~")
        if name in own:
            rule = f"the study sets {name}, by {own[name]}; take it out"
            raise ConfigValueError(key, override, rule)


def _check_known(key: str, names: Sequence[str], valid: Sequence[str]) -> None:
    for name in names:
        if name not in valid:
            raise ConfigValueError(key, name, f"choose from {', '.join(valid)}")


def _explain(error: OmegaConfBaseException) -> str:
    """Return what an error says, with the key and the valid ones."""
    owner: Any = error.object_type
    message = in_one_line(error)
    if not is_dataclass(owner):
        return message
    valid = ", ".join(entry.name for entry in fields(owner))
    return f"{message}; valid keys: {valid}"
