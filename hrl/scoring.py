"""Scores of a run on every split of its suite, written into its folder as tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from hrl import hardware
from hrl.config import ConfigError
from hrl.evaluation import INTERVENTIONS, SCORE_COLUMNS, Protocol, evaluate
from hrl.filming import film
from hrl.hardware import choose_device
from hrl.provenance import describe, write_json, write_text_atomic
from hrl.run_folder import Trained
from hrl.training import protocol_for


def score(
    run: Trained,
    folder: Path,
    command: str,
    episodes: int | None = None,
    splits: Sequence[str] | None = None,
    films: int | None = None,
) -> pd.DataFrame:
    """Evaluates `run` and writes scores.csv, skill_usage.csv and films into `folder`; returns the scores.

    Args:
        episodes: per task; by default evaluation.final_episodes of the run's configuration.
        splits: by default all of the suite.
        films: number of training tasks to film, by default all.

    Raises:
        ConfigError: an unknown split, or fewer than one episode.
    """
    count = run.config.evaluation.final_episodes if episodes is None else episodes
    names = list(run.suite.splits) if splits is None else list(splits)
    _refuse(run, names, count)
    hardware.configure(run.config.threads)
    protocol = protocol_for(run.config, choose_device(run.config.device), count)
    plain = evaluate(run.policy, run.suite, names, protocol)
    shuffled = evaluate(run.policy, run.suite, ["train"], protocol, INTERVENTIONS[1:])
    scores = pd.concat([plain.scores, shuffled.scores], ignore_index=True)
    scores = scores.assign(arm=run.config.arm_name, seed=run.config.seed, frames=run.frames)[SCORE_COLUMNS]
    folder.mkdir(parents=True, exist_ok=True)
    _describe(run, folder, command)
    write_text_atomic(folder / "scores.csv", scores.to_csv(index=False))
    if len(plain.usage):
        write_text_atomic(folder / "skill_usage.csv", plain.usage.to_csv(index=False))
    _film(run, folder, protocol, films)
    return scores


def score_table(scores: pd.DataFrame) -> str:
    """Mean return and success by split and intervention, as text."""
    groups = scores.groupby(["split", "intervention"], sort=False)
    table = groups.agg(returns=("return", "mean"), success=("success", "mean"), episodes=("return", "size"))
    return str(table.rename(columns={"returns": "return"}).round(3).to_string())


# Private functions.


def _refuse(run: Trained, splits: Sequence[str], episodes: int) -> None:
    unknown = [split for split in splits if split not in run.suite.splits]
    if unknown:
        raise ConfigError(
            f"suite {run.suite.name} has no split {unknown[0]!r}; choose from {', '.join(run.suite.splits)}"
        )
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")


def _describe(run: Trained, folder: Path, command: str) -> None:
    """A policy that learns nothing has no folder from training."""
    if run.frames == 0:
        write_text_atomic(folder / "config.yaml", yaml.safe_dump(run.plain, sort_keys=False))
        write_json(folder / "environment.json", describe(command, {"total": 0}))


def _film(run: Trained, folder: Path, protocol: Protocol, films: int | None) -> None:
    for task in run.suite.tasks("train")[:films]:
        path = folder / "videos" / f"{run.frames:09d}_{task.name}.mp4"
        film(run.policy, run.suite, task, protocol, run.config.tracking.video_steps, path)
