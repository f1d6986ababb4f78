"""The errors that a message explains without a traceback."""

import yaml

from envs.external.worker_pool import ExternalEnvError
from hrl.config import ConfigError
from hrl.reporting import RunFolderError
from hrl.run.checkpoints import CheckpointError, CheckpointWriteError, ConfigMismatchError
from hrl.run.logger import LoggerError
from hrl.run.memory import MemoryEstimateError
from hrl.run.nan_dump import NonFiniteError
from hrl.run.train import Interrupted

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
