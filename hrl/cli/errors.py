"""List the errors that are shown as a message without a traceback."""

import yaml

from envs.external.worker_pool import ExternalEnvError
from hrl.config import ConfigError
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
    ConfigMismatchError,
    CheckpointError,
    CheckpointWriteError,
    MemoryEstimateError,
    NonFiniteError,
    OSError,
    ExternalEnvError,
    LoggerError,
    RunFolderError,
    yaml.YAMLError,
)

__all__ = ["EXPLAINED", "Interrupted"]
