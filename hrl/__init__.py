"""Train hierarchical agents from pixels, and the flat agents that they are compared with.

import hrl

policy = hrl.load_policy("runs/point_mass/skills/seed_0")
env = policy.make_env()
action = policy.act(env.reset()[0], done=True)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrl.run.acting import ActingPolicy, load_policy

__all__ = ["ActingPolicy", "__version__", "load_policy"]

__version__ = "0.2.0"

# An update is thousands of short parallel regions. Threads that go to sleep after each are late for
# the next, which costs an update on two cores half as much again; threads that go on spinning take
# the cores from everything else that runs, and beside other busy processes training slows down many
# times over. So they spin for about a tenth of a millisecond, then sleep. The choice has to be made
# before torch is imported.
if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def __getattr__(name: str) -> Any:
    """Import what acts when it is first asked for, so that `import hrl` alone is quick."""
    if name in ("ActingPolicy", "load_policy"):
        from hrl.run import acting

        return getattr(acting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
