"""List the errors that are shown as a message without a traceback."""

import yaml

from envs.external.family import UnplayableEnvError
from envs.external.worker_pool import ExternalEnvError
from hrl.config import ConfigError
from hrl.config_field import ConfigValueError
from hrl.ranks import RankError
from hrl.reporting import RunFolderError
from hrl.run.errors import (
    CheckpointError,
    CheckpointWriteError,
    ConfigMismatchError,
    Interrupted,
    LoggerError,
    NonFiniteError,
)
from hrl.run.memory import MemoryEstimateError

EXPLAINED = (
    ConfigError,
    ConfigValueError,
    ConfigMismatchError,
    CheckpointError,
    CheckpointWriteError,
    MemoryEstimateError,
    NonFiniteError,
    RankError,
    OSError,
    ExternalEnvError,
    FloatingPointError,
    UnplayableEnvError,
    LoggerError,
    RunFolderError,
    yaml.YAMLError,
)

__all__ = ["EXPLAINED", "Interrupted"]
