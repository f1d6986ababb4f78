"""Measure how well a world model predicts images from actions alone: its open-loop error.

Losses do not show this. Most of an image does not move, so that a model may have small losses even
if the body it imagines goes anywhere, or goes the same way whatever the actions are.
"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hrl.agents.base import Predictor
from hrl.evaluation.probe_episodes import DiagnosticRollouts

HORIZONS = (1, 2, 4, 8, 16)
"""Numbers of agent steps that are predicted ahead."""
OPEN_LOOP_COLUMNS = ["horizon", "model", "last_image", "shuffled_actions", "images"]
_STARTS = tuple(range(8, 72, 16))  # agent steps of the episode at which predictions start
DIAGNOSTIC_STEPS = _STARTS[-1] + HORIZONS[-1] + 1
"""Agent steps of an episode that `open_loop_error` uses."""


@torch.inference_mode()
def open_loop_error(policy: Predictor, rollouts: DiagnosticRollouts) -> pd.DataFrame:
    """Predict parts of exploring episodes from the steps before them and from their actions.

    Predictions start at agent steps 8, 24, 40 and 56; in episodes of at most 8 steps, at the first.

    Returns:
        One row per horizon that episodes are long enough for, with the columns OPEN_LOOP_COLUMNS.
        `model` is the squared error of a predicted image in units of a pixel's range, summed over
        the image and averaged over worlds and starts. `last_image` is the same error of the last
        observed image, and `shuffled_actions` that of predictions from another world's actions;
        `images` counts the images. A model that knows the effect of actions has a `model` error
        well below both others.
    """
    rows = [
        row for start in _starts(len(rollouts.actions)) for row in _errors(policy, rollouts, start)
    ]
    table = pd.DataFrame(rows, columns=OPEN_LOOP_COLUMNS).groupby("horizon", as_index=False)
    return table.agg(
        {"model": "mean", "last_image": "mean", "shuffled_actions": "mean", "images": "sum"}
    )


# Private functions.


def _starts(steps: int) -> list[int]:
    """Return the agent steps at which predictions start, in an episode of so many steps."""
    return [start for start in _STARTS if start < steps] or [0]


def _errors(policy: Predictor, rollouts: DiagnosticRollouts, start: int) -> list[dict[str, float]]:
    """Return one row of errors per horizon, for predictions that start at this step."""
    actions = rollouts.actions[start : start + HORIZONS[-1]]
    state = rollouts.states[start]
    predicted = {
        "model": policy.predict_images(state, actions, rollouts.task),
        "shuffled_actions": policy.predict_images(
            state, actions[:, rollouts.previous], rollouts.task
        ),
    }
    last_image = rollouts.pixels[start].float() / 255
    rows = []
    for horizon in (horizon for horizon in HORIZONS if horizon <= len(actions)):
        truth = rollouts.pixels[start + horizon]
        row = {name: _error(images[horizon - 1], truth) for name, images in predicted.items()}
        last = _error(last_image, truth)
        rows.append({"horizon": horizon, "last_image": last, "images": len(truth), **row})
    return rows


def _error(
    image: Float[Tensor, "env height width channel"],
    truth: UInt8[Tensor, "env height width channel"],
) -> float:
    return float((image - truth.float() / 255).square().sum((-3, -2, -1)).mean())
