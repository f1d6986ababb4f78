"""Define the typed configuration of a run and compose it from `configs/` and a command line.

Dataclasses are the manual: each field's meaning, default and range stands here or beside the agent
that reads it. Files under `configs/` only say what differs. Whatever is wrong stops here, before
anything is built, with the key and the choices.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.version import VersionBase
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from envs import OBSERVATIONS, Suite, load_suite
from envs.extensions import imported_modules
from envs.external.gymnasium_id import PREFIX, modules_named
from envs.resources import CONFIG_DIR, config_dirs, config_files
from hrl.agents.parts import FinetuneConfig
from hrl.agents.registry import SCRIPTED, find_agent, registered_agents
from hrl.config_field import (
    MAX_SIZE,
    CheckedConfig,
    ConfigValueError,
    check_fields,
    config_field,
    join_key,
)
from hrl.config_field import ConfigError as ConfigError
from hrl.nets.encoder import DEFAULT_ENCODER, EncoderConfig
from hrl.overrides import OverrideError, check_overrides, parse_override, with_quotes
from hrl.world_model.model import WorldModelConfig

GROUPS = ("agent", "suite", "size", "experiment")
MAX_SEED = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class NetworkConfig(CheckedConfig):
    """Hold the sizes that all methods of a comparison share."""

    encoder: EncoderConfig = config_field(
        default_factory=EncoderConfig, help="sizes of the encoder of agents without a world model"
    )
    task_features: int = config_field(
        64, "features that the task vector is embedded in", at_least=1, at_most=MAX_SIZE
    )
    hidden: list[int] = config_field(
        default_factory=lambda: [256, 256],
        help="hidden layers of every perceptron of agents without a world model (policies, "
        "critics, managers, skills)",
        at_least=1,
        at_most=MAX_SIZE,
    )
    world_model: WorldModelConfig = config_field(
        default_factory=WorldModelConfig,
        help="sizes of agents with a world model, which have an encoder of their own and read none "
        "of the above but task_features",
    )
    imag_last: int = config_field(
        0,
        "of such agents, states of every replayed sequence, the last ones, that imagination begins "
        "at; 0 for all. With the sizes it decides what an update costs. They have it as "
        "agent.imag_last",
        at_least=0,
    )


@dataclass(frozen=True)
class EvaluationScheduleConfig(CheckedConfig):
    """Say when and how a run is evaluated."""

    every: int | None = config_field(
        None,
        "control steps between evaluations in training, 0 for none; null for a tenth of frames "
        "when the run starts. Evaluations take a few hundredths of the time of a run of a million "
        "steps, and a larger share of a short one",
        at_least=0,
    )
    episodes: int = config_field(
        1, "episodes per training task, in training", at_least=1, at_most=10_000
    )
    final_episodes: int = config_field(
        10,
        "episodes per task that `pixel-hrl evaluate` plays; 50 for tables of results",
        at_least=1,
        at_most=10_000,
    )
    seed: int = config_field(
        20_240,
        "seed of the evaluation episodes, together with each task's own evaluation_seed; shared by "
        "all methods, so that they meet the same starts",
        at_least=0,
        at_most=MAX_SEED,
    )


@dataclass(frozen=True)
class TrackingConfig(CheckedConfig):
    """Say where metrics and videos go."""

    wandb: str = config_field(
        "offline", "mode of Weights & Biases", choices=("online", "offline", "disabled")
    )
    tensorboard: bool = config_field(True, "write TensorBoard event files")
    videos: int = config_field(
        1,
        "episodes recorded as videos at each evaluation in training, one task each",
        at_least=0,
    )
    video_steps: int = config_field(250, "agent steps of a video", at_least=1, at_most=1_000_000)
    progress: bool = config_field(True, "show the live display")
    group: str = config_field(
        "", "group of the run in Weights & Biases; empty for the experiment, or SUITE-METHOD"
    )


@dataclass(frozen=True)
class RunConfig(CheckedConfig):
    """Configure one training run."""

    agent: Any = config_field(MISSING, "the algorithm and its hyperparameters")
    suite: Any = config_field(MISSING, "tasks and splits")
    network: NetworkConfig = config_field(
        default_factory=NetworkConfig, help="sizes that all methods of a comparison share"
    )
    evaluation: EvaluationScheduleConfig = config_field(
        default_factory=EvaluationScheduleConfig, help="when and how the run is evaluated"
    )
    tracking: TrackingConfig = config_field(
        default_factory=TrackingConfig, help="where metrics and videos go"
    )
    folder: str = config_field(
        "runs/${suite.name}/${method}/seed_${seed}",
        "where everything of the run is written; the same command continues what it finds there",
    )
    method: str = config_field(
        "${agent.name}", "the name under which reports group runs; by default the agent's name"
    )
    seed: int = config_field(0, "seed of the run", at_least=0, at_most=MAX_SEED)
    frames: int = config_field(
        1_000_000,
        "control steps to train for, over all environments; may be raised to continue a finished "
        "run",
        at_least=1,
        at_most=MAX_SEED,
    )
    num_envs: int = config_field(
        64,
        "environments stepped side by side; training tasks are assigned to them round-robin",
        at_least=1,
    )
    frame_stack: int = config_field(3, "images that an observation stacks", at_least=1)
    image_size: int = config_field(64, "side of an image in pixels", at_least=8)
    observation: str = config_field(
        "pixels",
        "what agents observe beside the task: pixels; state, the body's own joints and velocities "
        "(of suite=gym/ID what that environment observes itself), without images, so that nothing "
        "is rendered in training; or both. For agents without a world model, on suites that have "
        "a state. Images alone are stacked",
        choices=OBSERVATIONS,
    )
    random_initial_episode_step: bool = config_field(
        True,
        "spread the first episodes' ends, so that a rollout holds early and late steps of episodes",
    )
    precision: str = config_field(
        "auto",
        "dtype of the encoder's products; auto takes bfloat16 where the hardware is fast at it",
        choices=("auto", "float32", "bfloat16"),
    )
    checkpoint_every: int | None = config_field(
        None,
        "control steps between checkpoints; null for a tenth of frames when the run starts, at "
        "most 200,000",
        at_least=1,
    )
    device: str = config_field(
        "auto", "device that the agent computes on: auto, cpu, cuda, or cuda:NUMBER"
    )
    physics: str = config_field(
        "auto",
        "what simulates: mujoco, on the CPU; warp, MuJoCo Warp on `device`; auto, which is warp on "
        "a GPU for scenes that it can simulate, else mujoco, and is decided when the run starts",
        choices=("auto", "mujoco", "warp"),
    )
    threads: int = config_field(
        0, "threads of torch and of the simulator, 0 for one per core", at_least=0, at_most=4096
    )
    time_limit: float | None = config_field(
        None,
        "seconds after which this start of the run has saved and left with exit code 75; the same "
        "command continues. At least one iteration is made; null for no limit",
        above=0,
    )

    finetune: FinetuneConfig | None = config_field(
        None, "what a fine-tuning run started from; written by pixel-hrl finetune"
    )
    imports: list[str] = config_field(
        default_factory=lambda: list(imported_modules()),
        help="modules that register what the run is made of, as given with --import=MODULE",
    )

    def check_together(self) -> None:
        """Refuse what no key can know of alone: paths, devices, encoders that are not used."""
        check_path_name("method", self.method)
        if self.method in SCRIPTED and self.agent.name != self.method:
            rule = (
                f"reports take it for the reference scores of agent={self.method}; choose another"
            )
            raise ConfigValueError("method", self.method, rule)
        if not self.folder:
            raise ConfigValueError("folder", self.folder, "it must name a folder")
        if not _DEVICE.fullmatch(self.device):
            rule = "choose from auto, cpu, cuda, or a GPU by its number such as cuda:0"
            raise ConfigValueError("device", self.device, rule)
        kind, key = self.network.encoder.kind, self.agent.encoder_key
        if kind != DEFAULT_ENCODER and key != "network.encoder":
            rule = f"agent {self.agent.name} encodes images by {key}; leave it {DEFAULT_ENCODER}"
            raise ConfigValueError("network.encoder.kind", kind, rule)
        if self.observation != "pixels" and not self.agent.takes_state:
            able = [name for name, entry in registered_agents().items() if entry.config.takes_state]
            rule = f"agent {self.agent.name} observes images alone; {', '.join(able)} take a state"
            raise ConfigValueError("observation", self.observation, rule)
        if self.observation == "state" and kind != DEFAULT_ENCODER:
            rule = f"observation=state has no images to encode; leave it {DEFAULT_ENCODER}"
            raise ConfigValueError("network.encoder.kind", kind, rule)


class ComposedConfig(NamedTuple):
    """Hold one run's configuration in both of its forms.

    Attributes:
        config: typed.
        plain: nested dictionaries of plain values, all resolved, as `config.yaml` holds them.
    """

    config: RunConfig
    plain: dict[str, Any]


def load(overrides: Sequence[str], config_dir: Path = CONFIG_DIR) -> ComposedConfig:
    """Return the run that the command line asks for.

    Args:
        overrides: Hydra overrides, such as `agent=skills suite=point_mass agent.skill_duration=4`.
        config_dir: folder of the configuration files.

    Raises:
        ConfigError: unknown key or choice, wrong type, impossible combination; names the key and
            the valid choices.
    """
    try:
        check_overrides(overrides)
    except OverrideError as error:
        raise ConfigError(str(error)) from error
    _register()
    _refuse_removals(overrides)
    _refuse_groups_without_name(overrides)
    _refuse_finetune(overrides)
    _register_external(overrides)
    try:
        return from_composed(_compose([*overrides, *_tracking_group(overrides)], config_dir))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, config_dir)) from error


def from_composed(composed: DictConfig) -> ComposedConfig:
    """Return the typed and the plain form of a composed configuration.

    Raises:
        ConfigError: a value out of its range, or a combination that cannot be.
    """
    try:
        _refuse_missing_modules(composed.get("imports"))
        for group in ("agent", "suite"):
            _refuse_missing(composed, group)
        _refuse_other_agent(composed)
        plain = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(plain, dict)
        suite = Suite.from_dict(plain["suite"]).check_installed()
        check_tree(composed)
        run = OmegaConf.to_object(composed)
        assert isinstance(run, RunConfig)
        if run.observation != "pixels":
            suite.check_observation(run.observation)
    except ConfigError:
        raise
    except OmegaConfBaseException as error:
        raise ConfigError(in_one_line(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # Other runs say nothing of fine-tuning, and those that observe images nothing of states.
    absent = [
        *(() if run.finetune else ("finetune",)),
        *(() if run.observation != "pixels" else ("observation",)),
    ]
    return ComposedConfig(run, {str(k): value for k, value in plain.items() if k not in absent})


def from_saved(plain: dict[str, Any]) -> ComposedConfig:
    """Return both forms of a saved configuration, as `RunFolder.read_config` gives it.

    Raises:
        ConfigError: a file of another version of this project, or edited by hand.
    """
    _refuse_interpolations(plain)
    _refuse_missing_modules(plain.get("imports"))
    _refuse_missing_modules(modules_named(plain.get("suite")))
    node = schema(RunConfig)
    agent = plain.get("agent")
    try:
        entry = find_agent(agent.get("name") if isinstance(agent, dict) else agent)
        node.agent = schema(entry.config)
        if plain.get("finetune") is not None:
            node.finetune = schema(FinetuneConfig)
        _refuse_values_of_nodes(node, plain)
        return from_composed(_as_mapping(OmegaConf.merge(node, plain)))
    except ConfigError:
        raise
    except OmegaConfBaseException as error:
        raise ConfigError(in_one_line(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_tree(node: DictConfig, path: str = "") -> None:
    """Check every node of a composed configuration against the dataclass that declares it.

    Raises:
        ConfigValueError: a value out of its range, or values that do not go together; names the
            key with its whole path.
    """
    for name, child in _nodes(node):
        check_tree(child, join_key(path, name))
    config_class = OmegaConf.get_type(node)
    if not is_dataclass(config_class):
        return
    _refuse_unknown(node, [entry.name for entry in fields(config_class)], path)
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    check_fields({str(key): value for key, value in values.items()}, config_class, path)
    try:
        OmegaConf.to_object(node)
    except ConfigValueError as error:
        raise error.within(path) from error


def schema(config_class: type) -> DictConfig:
    """Return the typed node of a configuration class, which files and arguments can fill in."""
    return _writable(OmegaConf.structured(config_class))


def check_path_name(key: str, name: str) -> None:
    """Refuse a name that could not be part of a folder's path.

    Raises:
        ConfigValueError: names the key.
    """
    if not _NAME.fullmatch(name):
        rule = "a name has letters, digits, '_', '.' and '-', and begins with a letter or digit"
        raise ConfigValueError(key, name, rule)


def in_one_line(error: OmegaConfBaseException) -> str:
    """Return what an error of OmegaConf says, with its key and without notes on its own types."""
    message = _without_notes(str(error))
    return f"{error.full_key}: {message}" if error.full_key else message


def choices(group: str, config_dir: Path = CONFIG_DIR) -> list[str]:
    """Return the choices of a group: its files in `configs/`, and the registered agents."""
    files = {path.stem for path in (config_dir / group).glob("*.yaml")} | set(config_files(group))
    return sorted(files | (set(registered_agents()) if group == "agent" else set()))


# Private functions.


def _tracking_group(overrides: Sequence[str]) -> list[str]:
    """Return the override that groups the runs of an experiment, where the user names no group."""
    parsed = [parse_override(text) for text in overrides]
    chosen = {override.key_or_group: override.value() for override in parsed}
    experiment = chosen.get("experiment")
    if experiment is None or "tracking.group" in chosen:
        return []
    return [with_quotes(f"tracking.group={experiment}")]


def _compose(overrides: Sequence[str], config_dir: Path) -> DictConfig:
    """Compose a run from the project's files, and from those of the folders that a user added."""
    added = [f"file://{folder}" for folder in config_dirs() if folder != CONFIG_DIR]
    search_path = ", ".join(with_quotes(f"x={folder}")[2:] for folder in added)
    extended = [*overrides, f"hydra.searchpath=[{search_path}]"] if added else list(overrides)
    job = JobRuntime.instance().get("name")  # a caller's, or the default
    with (
        _hydra_of_our_own(),
        initialize_config_dir(str(config_dir), job_name=job, version_base="1.3"),
    ):
        return compose("config", extended)


@contextmanager
def _hydra_of_our_own() -> Iterator[None]:
    """Leave the state of a caller's own `@hydra.main` or `initialize` as it was."""
    caller = GlobalHydra.instance()
    hydra = caller.hydra
    version = VersionBase.instance().version_base
    caller.clear()
    try:
        yield
    finally:
        caller.hydra = hydra
        GlobalHydra.set_instance(caller)
        VersionBase.instance().version_base = version


def _refuse_missing_modules(names: Any) -> None:
    """Refuse a run whose modules have not been imported: that is done on request alone."""
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise ConfigError(f"imports is {names!r}; it must be a list of names of modules")
    missing = [str(name) for name in names or () if name not in sys.modules]
    if missing:
        flags = " ".join(f"--import={name}" for name in missing)
        raise ConfigError(
            f"the run uses {', '.join(missing)}, which is imported only when the command says so: "
            f"add {flags} (in Python: import it first)"
        )


def _refuse_interpolations(node: object, path: str = "") -> None:
    """Refuse what would be resolved: saved values are, and others may name a reader's secrets."""
    if isinstance(node, dict):
        for key, value in node.items():
            _refuse_interpolations(value, join_key(path, str(key)))
    elif isinstance(node, list):
        for value in node:
            _refuse_interpolations(value, path)
    elif isinstance(node, str) and "${" in node:
        raise ConfigError(f"{path} is {node!r}; a saved configuration holds no ${{...}}")


def _refuse_values_of_nodes(node: DictConfig, plain: Mapping[str, Any], path: str = "") -> None:
    """Refuse a value where keys are expected; OmegaConf's error would not name the place."""
    for name, child in _nodes(node):
        given = plain.get(name, {})
        if not isinstance(given, Mapping):
            rule = f"it has keys of its own: {', '.join(map(str, child))}"
            raise ConfigValueError(join_key(path, name), given, rule)
        _refuse_values_of_nodes(child, given, join_key(path, name))


def _register() -> None:
    """Tell Hydra the schema of a run, and every agent as an option that needs no file."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=schema(RunConfig))
    for name, entry in registered_agents().items():
        agent = OmegaConf.create({"agent": schema(entry.config)})
        node = OmegaConf.merge(agent, dict(entry.run_defaults))
        store.store(group="agent", name=name, node=node, package="_global_")


def _register_external(overrides: Sequence[str]) -> None:
    """Make the suite of an environment that is registered with Gymnasium, which has no file."""
    for override in map(parse_override, overrides):
        name = override.value()
        if override.key_or_group == "suite" and str(name).startswith(PREFIX):
            group, _, option = f"suite/{name}".rpartition("/")
            try:
                node = load_suite(str(name)).to_dict()
            except ValueError as error:
                raise ConfigError(str(error)) from error
            ConfigStore.instance().store(group=group, name=option, node=node, package="suite")


def _writable(node: DictConfig) -> DictConfig:
    """Return a node that composition can fill in: frozen dataclasses become read-only ones."""
    OmegaConf.set_readonly(node, None)
    for _, child in _nodes(node):
        _writable(child)
    return node


def _nodes(node: DictConfig) -> list[tuple[str, DictConfig]]:
    """Return the children of a node that are nodes themselves, by name."""
    children = [(str(key), node._get_node(key)) for key in node]
    return [
        (key, child)
        for key, child in children
        if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none()
    ]


def _refuse_removals(overrides: Sequence[str]) -> None:
    """Refuse `~KEY`: every run has every key."""
    for text in overrides:
        override = parse_override(text)
        if override.is_delete() and override.key_or_group not in GROUPS:
            raise ConfigError(f"{text}: a run has every key; give KEY=VALUE to change one")


def _refuse_groups_without_name(overrides: Sequence[str]) -> None:
    for text in overrides:
        override = parse_override(text)
        key, value = override.key_or_group, override.value()
        named = isinstance(value, str) and value not in ("", "null")
        if key in GROUPS and not override.is_delete() and not named:
            valid = ", ".join(choices(key))
            none = ", or leave it out for none" if key == "experiment" else ""
            given = text.partition("=")[2]
            raise ConfigError(f"{key} is {given!r}; choose from {valid}{none}")


def _refuse_finetune(overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key.split(".")[0] == "finetune":
            raise ConfigError(f"{key} cannot be given: use pixel-hrl finetune from=RUN task=NAME")


def _as_mapping(node: Any) -> DictConfig:
    assert isinstance(node, DictConfig)
    return node


def _refuse_missing(composed: DictConfig, group: str) -> None:
    if OmegaConf.is_missing(composed, group) or composed.get(group) is None:
        raise ConfigValueError(group, None, f"choose from {', '.join(choices(group))}")


def _refuse_unknown(node: DictConfig, valid: Sequence[str], path: str) -> None:
    unknown = [str(key) for key in node if key not in valid]
    if unknown:
        raise ConfigError(
            f"unknown key {join_key(path, unknown[0])}; valid keys of {path or 'a run'}: "
            f"{', '.join(sorted(valid))}"
        )


def _refuse_other_agent(composed: DictConfig) -> None:
    """Refuse a changed `agent.name`: the hyperparameters would stay those of the chosen agent."""
    chosen = OmegaConf.get_type(composed.agent)
    name = composed.agent.get("name")
    if find_agent(name).config is not chosen:
        own = next(
            (entry.name for entry in registered_agents().values() if entry.config is chosen), name
        )
        rule = f"the agent is {own!r}; choose another one by agent=NAME, not by its name"
        raise ConfigValueError("agent.name", name, rule)


def _explain(error: Exception, overrides: Sequence[str], config_dir: Path) -> str:
    cause = (
        error.__cause__
        if isinstance(error, ConfigCompositionException) and error.__cause__
        else error
    )
    key = getattr(cause, "full_key", None)
    message = _without_notes(str(cause).split("\nConfig search path")[0])
    if isinstance(error, MissingConfigException):
        return f"{message} (files of your own: --config-dir=DIR; agents: --import=MODULE)"
    if not key:
        return message
    if "not a subclass" in message:
        own = ", ".join(_valid_keys(f"{key}.", overrides, config_dir))
        return f"{key} is {message.rpartition('value: ')[2]}; it has keys of its own: {own}"
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return f"{key}: {message}"
    valid = ", ".join(_valid_keys(key, overrides, config_dir))
    return f"{message}; valid keys of {key.rpartition('.')[0] or 'a run'}: {valid}"


def _without_notes(text: str) -> str:
    """Return a message of OmegaConf in one line.

    Its notes on its own types say nothing to a user; the key is named by the caller.
    """
    notes = ("object_type", "reference_type", "full_key")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(notes))


def _valid_keys(key: str, overrides: Sequence[str], config_dir: Path) -> list[str]:
    """Return the keys beside `key`, with the same choice of groups."""
    if "." not in key:
        return sorted(entry.name for entry in fields(RunConfig))
    groups = [override for override in overrides if override.partition("=")[0] in GROUPS]
    node = OmegaConf.select(_compose(groups, config_dir), key.rpartition(".")[0])
    return sorted(map(str, node)) if isinstance(node, DictConfig) else []
