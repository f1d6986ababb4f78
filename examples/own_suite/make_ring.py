"""Define a suite of your own: other tasks and splits of a family that exists.

    python examples/own_suite/make_ring.py
    pixel-hrl train --config-dir=examples/own_suite agent=ppo suite=ring folder=runs/ring
    pixel-hrl evaluate runs/ring
    pixel-hrl suites ring --config-dir=examples/own_suite --out=runs/pages \
        --reference-scores=runs/reference_scores

A suite is a YAML file, suite/NAME.yaml in a folder that `--config-dir` names. It can be written by
hand; a script such as this one helps where tasks are many. Its tasks are targets of the point mass
on a ring: one quarter of the ring is held out, and so is a larger ring.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

FILE = Path(__file__).parent / "suite" / "ring.yaml"


def make_task(degrees: int, radius: float, evaluation_seed: int) -> dict[str, Any]:
    """Return one task: its parameters are those of the family, targets in metres."""
    angle = np.deg2rad(degrees)
    target = [round(float(radius * np.cos(angle)), 4), round(float(radius * np.sin(angle)), 4)]
    return {
        "name": f"at_{degrees}_radius_{round(100 * radius)}_cm",
        "family": "point_mass",
        "parameters": {"target": target},
        "episode_length": 500,
        # Evaluations of a task start from its own random numbers, the same for every method.
        "evaluation_seed": evaluation_seed,
    }


def make_suite() -> dict[str, Any]:
    """Return the suite as plain data."""
    train = [make_task(degrees, 0.15, degrees) for degrees in range(0, 226, 45)]
    held_out = [make_task(degrees, 0.15, degrees) for degrees in (270, 315)]
    larger = [make_task(degrees, 0.25, 1000 + degrees) for degrees in range(0, 271, 90)]
    return {
        "name": "ring",
        "action_repeat": 2,
        "reference_return": 500.0,  # the episode return that counts as a score of 1
        "parameter": "target",  # what figures of scores against a task parameter show
        "splits": {"train": train, "interpolation": held_out, "extrapolation_far": larger},
    }


if __name__ == "__main__":
    FILE.write_text(yaml.safe_dump(make_suite(), sort_keys=False, default_flow_style=None))
    print(f"wrote {FILE}")
