"""The typed configuration of a run, composed by Hydra from `configs/` and the command line.

Dataclasses are the manual: each field's meaning and default stands here or beside the agent that
reads it. Files under `configs/` only say what differs. Whatever is wrong stops here, before
anything is built, with the key and the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs import Suite, load_suite
from envs.external.gymnasium_id import PREFIX
from envs.resources import CONFIG_DIR
from hrl.agents.director import DirectorConfig
from hrl.agents.dreamer import DreamerConfig
from hrl.agents.ppo import PPOConfig
from hrl.agents.scripted import ScriptedConfig
from hrl.agents.skills import SkillsConfig
from hrl.agents.stable_baselines import SB3PPOConfig, SB3SACConfig
from hrl.config_field import ConfigError as ConfigError
from hrl.nets import EncoderConfig
from hrl.world_model.model import WorldModelConfig

GROUPS = ("agent", "suite", "size", "experiment")
AGENTS: dict[str, type] = {
    "ppo": PPOConfig,
    "skills": SkillsConfig,
    "dreamer": DreamerConfig,
    "director": DirectorConfig,
    "sb3_ppo": SB3PPOConfig,
    "sb3_sac": SB3SACConfig,
    "random": ScriptedConfig,
    "zero": ScriptedConfig,
}


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes that all methods of a comparison share.

    task_features: features that the task vector is embedded in.
    hidden: hidden layers of every perceptron (policies, critics, managers, skills).
    world_model: sizes of agents with a world model, which have an encoder of their own and read
        none of the above but task_features.
    imag_last: of such agents, states of every replayed sequence, the last ones, that imagination
        begins at; 0 for all. With the sizes it decides what an update costs. They have it as
        `agent.imag_last`.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    task_features: int = 64
    hidden: list[int] = field(default_factory=lambda: [256, 256])
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    imag_last: int = 0

    def __post_init__(self) -> None:
        _at_least(self, "network", task_features=1, imag_last=0)
        if any(size < 1 for size in self.hidden):
            raise ConfigError(
                f"network.hidden is {list(self.hidden)}; every size must be at least 1"
            )


@dataclass(frozen=True)
class EvaluationScheduleConfig:
    """every: control steps between evaluations in training, 0 for none.

    episodes: per training task, in training.  final_episodes: per task, by scripts/evaluate.py.
    seed: of the evaluation episodes, together with each task's own evaluation_seed; shared by all
        methods, so that they meet the same starts.
    """

    every: int = 500_000
    episodes: int = 4
    final_episodes: int = 50
    seed: int = 20_240

    def __post_init__(self) -> None:
        _at_least(self, "evaluation", every=0, episodes=1, final_episodes=1, seed=0)


@dataclass(frozen=True)
class TrackingConfig:
    """wandb: online|offline|disabled.  videos: episodes filmed at each evaluation in training, one task each.

    video_steps: agent steps of a film.  progress: the live display.
    """

    wandb: str = "offline"
    tensorboard: bool = True
    videos: int = 1
    video_steps: int = 250
    progress: bool = True

    def __post_init__(self) -> None:
        if self.wandb not in ("online", "offline", "disabled"):
            raise ConfigError(
                f"tracking.wandb is {self.wandb!r}; choose from online, offline, disabled"
            )
        _at_least(self, "tracking", videos=0, video_steps=1)


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    folder: where everything of the run is written; the same command continues what it finds there.
    method: the name under which reports group runs; empty for the agent's name.
    frames: control steps to train for, over all environments; may be raised to continue a finished
        run.
    num_envs: environments stepped side by side; training tasks are dealt out to them in turn.
    random_initial_episode_step: spread the first episodes' ends, so that a rollout holds early and
        late steps of episodes.
    precision: auto|float32|bfloat16 of the encoder's products; auto takes bfloat16 where the hardware is fast at it.
    checkpoint_every: control steps between checkpoints.
    device: auto, or a torch device.  threads: for torch and the simulator, 0 for one per core.
    """

    agent: Any = MISSING
    suite: Any = MISSING
    network: NetworkConfig = field(default_factory=NetworkConfig)
    evaluation: EvaluationScheduleConfig = field(default_factory=EvaluationScheduleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    folder: str = "runs/${suite.name}/${agent.name}/seed_${seed}"
    method: str = ""
    seed: int = 0
    frames: int = 1_000_000
    num_envs: int = 64
    frame_stack: int = 3
    image_size: int = 64
    random_initial_episode_step: bool = True
    precision: str = "auto"
    checkpoint_every: int = 200_000
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        _at_least(
            self,
            "",
            seed=0,
            frames=1,
            num_envs=1,
            frame_stack=1,
            image_size=8,
            checkpoint_every=1,
            threads=0,
        )
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(
                f"precision is {self.precision!r}; choose from auto, float32, bfloat16"
            )

    @property
    def method_name(self) -> str:
        """The method this run belongs to."""
        return self.method or str(self.agent.name)


class ComposedConfig(NamedTuple):
    """Hold one run's configuration in both of its forms.

    Attributes:
        config: typed.
        plain: nested dictionaries of plain values, all resolved, as `config.yaml` holds them.
    """

    config: RunConfig
    plain: dict[str, Any]


def load(overrides: Sequence[str], config_dir: Path = CONFIG_DIR) -> ComposedConfig:
    """The run that the command line asks for, typed and as plain nested dictionaries with all
    values resolved.

    Args:
        overrides: Hydra overrides, such as `agent=skills suite=point_mass agent.skill_duration=4`.

    Raises:
        ConfigError: unknown key or choice, wrong type, impossible combination; names the key and
            the valid choices.
    """
    _register()
    _register_external(overrides)
    try:
        with initialize_config_dir(str(config_dir), version_base="1.3"):
            composed = compose("config", list(overrides))
            return from_composed(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, config_dir)) from error


def from_composed(composed: DictConfig) -> ComposedConfig:
    """Typed and plain forms of a composed configuration.

    Raises:
        ConfigError: a value out of its range, or a combination that cannot be.
    """
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    try:
        Suite.from_dict(plain["suite"]).check_installed()
        _refuse_encoder(plain["network"]["encoder"])
        run = OmegaConf.to_object(composed)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    assert isinstance(run, RunConfig)
    return ComposedConfig(run, {str(key): value for key, value in plain.items()})


def from_saved(plain: dict[str, Any]) -> ComposedConfig:
    """Return both forms of a saved configuration, as `RunFolder.read_config` gives it.

    Raises:
        ConfigError: a file of another version of this project, or edited by hand.
    """
    schema = _writable(OmegaConf.structured(RunConfig))
    name = plain.get("agent", {}).get("name")
    if name not in AGENTS:
        raise ConfigError(f"agent.name is {name!r}; choose from {', '.join(AGENTS)}")
    schema.agent = _writable(OmegaConf.structured(AGENTS[name]))
    try:
        return from_composed(_as_mapping(OmegaConf.merge(schema, plain)))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error


def choices(group: str, config_dir: Path = CONFIG_DIR) -> list[str]:
    """Names of the files of a group of `configs/`."""
    return sorted(path.stem for path in (config_dir / group).glob("*.yaml"))


# Private functions.


def _register() -> None:
    store = ConfigStore.instance()
    store.store(name="run_schema", node=_writable(OmegaConf.structured(RunConfig)))
    for name, cls in AGENTS.items():
        store.store(group="schema/agent", name=name, node=_writable(OmegaConf.structured(cls)))


def _register_external(overrides: Sequence[str]) -> None:
    """A suite of one environment that is registered with Gymnasium has no file: it is made from the
    command line.
    """
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "suite" and name.startswith(PREFIX):
            group, _, option = f"suite/{name}".rpartition("/")
            try:
                node = load_suite(name).to_dict()
            except ValueError as error:
                raise ConfigError(str(error)) from error
            ConfigStore.instance().store(group=group, name=option, node=node, package="suite")


def _writable(node: DictConfig) -> DictConfig:
    """Frozen dataclasses become read-only nodes, which composition could not fill in."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_missing():
            _writable(child)
    return node


def _as_mapping(node: Any) -> DictConfig:
    assert isinstance(node, DictConfig)
    return node


def _at_least(config: Any, prefix: str, **bounds: int) -> None:
    for key, bound in bounds.items():
        value = getattr(config, key)
        if value < bound:
            name = f"{prefix}.{key}" if prefix else key
            raise ConfigError(f"{name} is {value}; it must be at least {bound}")


def _refuse_encoder(sizes: dict[str, Any]) -> None:
    """The encoder calls its keys by the names that it has for them; here they stand below
    `network`.
    """
    try:
        EncoderConfig(**sizes)
    except ValueError as error:
        raise ConfigError(f"network.{error}") from error


def _explain(error: Exception, overrides: Sequence[str], config_dir: Path) -> str:
    cause = (
        error.__cause__
        if isinstance(error, ConfigCompositionException) and error.__cause__
        else error
    )
    key = getattr(cause, "full_key", None)
    first = str(cause).split("\nConfig search path")[0].splitlines()
    message = " ".join(line.strip() for line in first if line.strip() and "object_type" not in line)
    if not key:
        return message
    valid = ", ".join(_valid_keys(key, overrides, config_dir))
    return f"{message}; valid keys of {key.rpartition('.')[0] or 'a run'}: {valid}"


def _valid_keys(key: str, overrides: Sequence[str], config_dir: Path) -> list[str]:
    """Keys beside `key`, with the same choice of groups."""
    if "." not in key:
        return sorted(entry.name for entry in fields(RunConfig))
    groups = [override for override in overrides if override.partition("=")[0] in GROUPS]
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        node = OmegaConf.select(compose("config", groups), key.rpartition(".")[0])
        return sorted(map(str, node)) if isinstance(node, DictConfig) else []
