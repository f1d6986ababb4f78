"""How well a world model foretells images from actions alone, in numbers: whether there is
something to learn in it.

Losses do not say this. Most of an image stands still, so that a model whose imagined body goes
anywhere, or goes the same way whatever is done, may have small ones.
"""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hrl.agents.base import Predictor
from hrl.evaluation.probe_episodes import DiagnosticRollouts

AHEAD = (1, 2, 4, 8, 16)
"""Agent steps ahead."""
COLUMNS = ["ahead", "model", "still", "swapped", "images"]
_BEGINS = tuple(range(8, 72, 16))  # agent steps of the episode at which predictions begin
EXPLORED = _BEGINS[-1] + AHEAD[-1] + 1
"""Agent steps of an episode that predictions are tried in."""


@torch.inference_mode()
def foresee(policy: Predictor, seen: DiagnosticRollouts) -> pd.DataFrame:
    """Predicts stretches of explored episodes from what was seen before them and the actions taken
    in them.

    Returns:
        One row for each of AHEAD that episodes are long enough for, columns COLUMNS: the squared
        error of a predicted image, in units of a pixel's range and summed over the image, averaged
        over tasks, worlds and stretches; the same for the last image that was seen (`still`), and
        for predictions from the actions of another world (`swapped`); and the number of images. A
        model that knows what actions do has `model` well below both others.
    """
    errors: list[dict[str, float]] = []
    for begin in (begin for begin in _BEGINS if begin + AHEAD[0] < len(seen.pixels)):
        actions = seen.actions[begin : begin + AHEAD[-1]][: len(seen.pixels) - 1 - begin]
        ways = {"model": actions, "swapped": actions[:, seen.previous]}
        imagined = {
            way: policy.predict_images(seen.states[begin], done, seen.task)
            for way, done in ways.items()
        }
        for ahead in (ahead for ahead in AHEAD if ahead <= len(actions)):
            truth = seen.pixels[begin + ahead]
            row = {way: _error(images[ahead - 1], truth) for way, images in imagined.items()}
            still = _error(seen.pixels[begin].float() / 255, truth)
            errors.append({"ahead": ahead, "still": still, "images": len(truth), **row})
    table = pd.DataFrame(errors, columns=COLUMNS).groupby("ahead", as_index=False)
    return table.agg({"model": "mean", "still": "mean", "swapped": "mean", "images": "sum"})


def _error(
    image: Float[Tensor, "env height width channel"],
    truth: UInt8[Tensor, "env height width channel"],
) -> float:
    return float((image - truth.float() / 255).square().sum((-3, -2, -1)).mean())
