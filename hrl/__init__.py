"""Hierarchical reinforcement learning from pixels, and the flat baselines that it is compared
with.
"""

import os

__version__ = "0.1.0"

# An update is thousands of short parallel regions. Threads that go to sleep after each are late for
# the next, which costs an update on two cores half as much again; threads that go on spinning take
# the cores from everything else that runs, and beside other busy processes training slows down many
# times over. So they spin for about a tenth of a millisecond, then sleep. The choice has to be made
# before torch is imported.
if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
