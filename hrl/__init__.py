"""Hierarchical reinforcement learning from pixels, and the flat baselines that it is compared with."""

import os

# Threads of a parallel region that wait by spinning take the cores from everything else that runs; beside other busy
# processes training then slows down many times over. The choice has to be made before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
