"""Hierarchical reinforcement learning from pixels, and the flat baselines that it is compared with."""

import os

# Threads of a parallel region that wait by spinning take the cores from everything else that runs. On two cores with
# another process busy on each, training ran at 24 agent steps a second while they spun and at 272 when they slept.
# The choice has to be made before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
