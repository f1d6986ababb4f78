"""Simulate multi-task robot control in batches, observed as pixels."""

from envs.versions import check_backend, check_installed_versions

# A wrong pair of versions must be reported before an import fails.
check_installed_versions()
check_backend()

from envs.make import make_vec  # noqa: E402
from envs.suites import Suite, load_suite  # noqa: E402
from envs.tasks import Task  # noqa: E402
from envs.vector.base import CHOICE_LIMIT, OBSERVATIONS, PixelVectorEnv  # noqa: E402

__all__ = [
    "CHOICE_LIMIT",
    "OBSERVATIONS",
    "PixelVectorEnv",
    "Suite",
    "Task",
    "load_suite",
    "make_vec",
]
