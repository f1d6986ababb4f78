"""Scores of a run on every split of its suite, written into its folder as tidy tables.

scores.csv holds one checkpoint under one protocol, which evaluation.json names. An evaluation of
every split replaces both. One of some splits replaces the rows of those and keeps the others, so
that split by split the file becomes what one evaluation of everything would have written; where the
rows to keep are of another checkpoint or were played under another protocol, it is refused before
anything is played.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from envs import Suite
from hrl.agents.base import GoalReacher, Predictor
from hrl.config import ConfigError, as_now
from hrl.evaluation.episodes import (
    INTERVENTIONS,
    SCORE_COLUMNS,
    EvalConfig,
    Evaluation,
    evaluate,
    worlds_at_once,
)
from hrl.evaluation.goal_reaching import goal_distance, goal_reaching, goal_reaching_table
from hrl.evaluation.imagination_video import record_imagination
from hrl.evaluation.open_loop import DIAGNOSTIC_STEPS, open_loop_error
from hrl.evaluation.policy_video import record_video
from hrl.evaluation.probe_episodes import DiagnosticRollouts
from hrl.run import hardware
from hrl.run.checkpoints import differing_keys
from hrl.run.hardware import choose_device
from hrl.run.load import LoadedRun
from hrl.run.memory_estimate import acting_memory_estimate
from hrl.run.provenance import describe, write_json, write_text_atomic
from hrl.run.train import MAY_DIFFER, eval_config_for

SCORES, USAGE, PROTOCOL = "scores.csv", "skill_usage.csv", "evaluation.json"
OPEN_LOOP_ERROR = "open_loop_error.csv"
GOAL_REACHING = "goal_reaching.csv"
GOAL_DISTANCE = "goal_distance.csv"


class MixedScoresError(ConfigError):
    """Scores that cannot stand in one table with those that are there."""


def evaluate_run(
    run: LoadedRun,
    folder: Path,
    command: str,
    episodes: int | None = None,
    splits: Sequence[str] | None = None,
    films: int | None = None,
) -> pd.DataFrame:
    """Evaluates `run` and writes scores.csv, skill_usage.csv and films into `folder`; returns the
    new scores.

    For a policy with a world model, open_loop_error.csv holds the errors of its predictions on the
    training split. For one that sets goals in it, goal_reaching.csv holds how far from its goals
    the worker ends, and goal_distance.csv how far goals are from observed states.

    The memory it takes is printed first. With some splits only, scores of the other splits stay in
    the files (see the top of this file). The shuffle tests are played where the training split is.

    Args:
        episodes: per task; by default evaluation.final_episodes of the run's configuration.
        splits: by default all of the suite.
        films: number of training tasks to film, by default all.

    Raises:
        ConfigError: an unknown split, or fewer than one episode; MixedScoresError where scores that
            would stay are of another checkpoint, of another configuration, or of another protocol.
        MemoryEstimateError: the episodes do not fit into memory side by side.
    """
    count = run.config.evaluation.final_episodes if episodes is None else episodes
    names = list(run.suite.splits if splits is None else dict.fromkeys(splits))
    _refuse(run, names, count)
    eval_config = eval_config_for(run.config, choose_device(run.config.device), count)
    kept = _Kept.of(folder, run, names, _record(run, eval_config))
    budget = acting_memory_estimate(
        run.config, run.suite, _worlds(run, names, count), run.config.tracking.video_steps
    )
    print(budget)
    budget.check()
    hardware.configure(run.config.threads)
    played = _play(run, names, eval_config)
    scores = played.scores.assign(
        method=run.config.method_name, seed=run.config.seed, frames=run.frames
    )[SCORE_COLUMNS]
    folder.mkdir(parents=True, exist_ok=True)
    _describe(run, folder, command)
    _write(run, folder, kept.merged(run, scores, played.usage), _record(run, eval_config))
    if "train" not in kept.scores["split"].to_numpy():
        # Of a checkpoint whose scores are gone.
        for name in (OPEN_LOOP_ERROR, GOAL_REACHING, GOAL_DISTANCE):
            (folder / name).unlink(missing_ok=True)
    if "train" in names and isinstance(run.policy, Predictor):
        _diagnose(run.policy, run.suite, eval_config, folder)
    _film(run, folder, eval_config, films)
    return scores


def _diagnose(policy: Predictor, suite: Suite, eval_config: EvalConfig, folder: Path) -> None:
    """Tables of what a world model, and a worker in it, can do on the training split."""
    seen = DiagnosticRollouts(policy, suite, "train", eval_config, DIAGNOSTIC_STEPS)
    errors = open_loop_error(policy, seen)
    write_text_atomic(folder / OPEN_LOOP_ERROR, errors.to_csv(index=False))
    print(
        f"squared error of predicted images, agent steps ahead\n{errors.round(2).to_string(index=False)}"
    )
    if isinstance(policy, GoalReacher):
        reaching = goal_reaching(policy, seen)
        distances = goal_distance(policy, seen)
        write_text_atomic(folder / GOAL_REACHING, reaching.to_csv(index=False))
        write_text_atomic(folder / GOAL_DISTANCE, distances.to_csv(index=False))
        print(
            f"distance left to goals so many steps apart, steps of the worker\n{goal_reaching_table(reaching)}"
        )
        print(
            f"distance to the nearest state and to any\n{distances.round(2).to_string(index=False)}"
        )


def score_table(scores: pd.DataFrame) -> str:
    """Mean return and success by split and intervention, with the median control steps to a
    success, as text.
    """
    groups = scores.groupby(["split", "intervention"], sort=False)
    table = groups.agg(
        returns=("return", "mean"),
        success=("success", "mean"),
        steps=("steps_to_success", "median"),
        episodes=("return", "size"),
    )
    return str(
        table.rename(columns={"returns": "return", "steps": "steps to success"})
        .round(3)
        .to_string()
    )


# Private functions.


def _refuse(run: LoadedRun, splits: Sequence[str], episodes: int) -> None:
    unknown = [split for split in splits if split not in run.suite.splits]
    if unknown:
        raise ConfigError(
            f"suite {run.suite.name} has no split {unknown[0]!r}; choose from {', '.join(run.suite.splits)}"
        )
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")


def _worlds(run: LoadedRun, splits: Sequence[str], episodes: int) -> int:
    """Of the split that is played in the most worlds at once."""
    return max(worlds_at_once(run.suite, len(run.suite.tasks(split)), episodes) for split in splits)


def _play(run: LoadedRun, splits: Sequence[str], eval_config: EvalConfig) -> Evaluation:
    """Every split as it is, then the training split with shuffles, for which it takes more than one
    task.
    """
    plain = evaluate(run.policy, run.suite, splits, eval_config)
    if "train" not in splits or len(run.suite.tasks("train")) == 1:
        return plain
    shuffled = evaluate(run.policy, run.suite, ["train"], eval_config, INTERVENTIONS[1:])
    return Evaluation(pd.concat([plain.scores, shuffled.scores], ignore_index=True), plain.usage)


def _record(run: LoadedRun, eval_config: EvalConfig) -> dict[str, Any]:
    """What makes two evaluations comparable row by row, as JSON: the checkpoint, and how episodes
    are played.
    """
    sizes = {"frame_stack": eval_config.frame_stack, "image_size": eval_config.image_size}
    return {
        "frames": run.frames,
        "episodes": eval_config.episodes,
        "seed": eval_config.seed,
        **sizes,
    }


@dataclass(frozen=True)
class _Kept:
    """Rows of the splits that are not evaluated anew, of scores.csv and skill_usage.csv."""

    scores: pd.DataFrame
    usage: pd.DataFrame

    @classmethod
    def of(
        cls, folder: Path, run: LoadedRun, splits: Sequence[str], record: Mapping[str, Any]
    ) -> _Kept:
        """What stays in a folder. Raises MixedScoresError where it cannot stand beside what
        `record` says.
        """
        scores, usage = (_others(folder / name, splits) for name in (SCORES, USAGE))
        if len(scores):
            _refuse_mixture(folder, run, record)
        return cls(scores, usage)

    def merged(self, run: LoadedRun, scores: pd.DataFrame, usage: pd.DataFrame) -> Evaluation:
        """These rows and new ones, in the order in which an evaluation of every split writes
        them.
        """
        return Evaluation(_ordered(run, [self.scores, scores]), _ordered(run, [self.usage, usage]))


def _others(path: Path, splits: Sequence[str]) -> pd.DataFrame:
    """The rows of a table, empty without the file, that are of none of these splits; as text, to
    stay as they are.
    """
    if not path.exists():
        return pd.DataFrame({"split": []})
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table[~table["split"].isin(list(splits))]


def _refuse_mixture(folder: Path, run: LoadedRun, record: Mapping[str, Any]) -> None:
    where = f"{folder / SCORES} holds other splits, which would stay"
    mend = f"evaluate every split, or remove {SCORES}"
    if not (folder / PROTOCOL).exists():
        raise MixedScoresError(f"{where}, and no {PROTOCOL} says how they were played: {mend}")
    different = differing_keys(json.loads((folder / PROTOCOL).read_text()), record)
    saved = as_now(yaml.safe_load((folder / "config.yaml").read_text()))
    different |= differing_keys(saved, run.plain, ignore=MAY_DIFFER)
    if different:
        named = ", ".join(
            f"{key} {old!r} there and {new!r} now" for key, (old, new) in different.items()
        )
        raise MixedScoresError(f"{where}, but were played otherwise ({named}): {mend}")


def _ordered(run: LoadedRun, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """By intervention, where there is one, then by split in the suite's order."""
    table = pd.concat([table for table in tables if len(table)] or [tables[-1]], ignore_index=True)
    places = {"split": list(run.suite.splits), "intervention": list(INTERVENTIONS)}
    for (
        column,
        order,
    ) in places.items():  # the later one counts first: each sort keeps the order it finds
        if column in table:
            table = table.iloc[np.argsort(table[column].map(order.index).to_numpy(), kind="stable")]
    return table


def _write(run: LoadedRun, folder: Path, evaluation: Evaluation, record: Mapping[str, Any]) -> None:
    # Gone while the table changes: after a kill in between nothing is taken for what it is not.
    (folder / PROTOCOL).unlink(missing_ok=True)
    write_text_atomic(folder / SCORES, evaluation.scores.to_csv(index=False))
    if len(evaluation.usage):
        write_text_atomic(folder / USAGE, evaluation.usage.to_csv(index=False))
    write_json(folder / PROTOCOL, dict(record))


def _describe(run: LoadedRun, folder: Path, command: str) -> None:
    """A policy that learns nothing has no folder from training."""
    if run.frames == 0:
        write_text_atomic(folder / "config.yaml", yaml.safe_dump(run.plain, sort_keys=False))
        write_json(folder / "environment.json", describe(command, {"total": 0}))


def _film(run: LoadedRun, folder: Path, eval_config: EvalConfig, films: int | None) -> None:
    for task in run.suite.tasks("train")[:films]:
        path = folder / "videos" / f"{run.frames:09d}_{task.name}.mp4"
        record_video(
            run.policy, run.suite, task, eval_config, run.config.tracking.video_steps, path
        )
        record_imagination(run.policy, run.suite, task, eval_config, path)
