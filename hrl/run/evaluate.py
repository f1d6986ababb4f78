"""Write the scores of a run on every split of its suite into its folder as tidy tables.

scores.csv holds one checkpoint played in one way, which evaluation.json names; shuffled_scores.csv
holds the episodes of the shuffle tests. An evaluation of every split replaces all of them. One of
some splits replaces the rows of those splits and keeps the others, so that split by split the files
become what one evaluation of everything would have written. Where the rows to keep are of another
checkpoint or were played in another way, the evaluation is refused before anything is played.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs import Suite, Task
from hrl.agents.base import GoalReacher, Predictor
from hrl.config import ConfigError
from hrl.evaluation.episodes import (
    INTERVENTIONS,
    SCORE_COLUMNS,
    EvalConfig,
    Evaluation,
    count_episodes,
    evaluate,
    worlds_at_once,
)
from hrl.evaluation.goal_reaching import (
    goal_distance,
    goal_distance_table,
    goal_reaching,
    goal_reaching_table,
)
from hrl.evaluation.imagination_video import record_imagination
from hrl.evaluation.open_loop import DIAGNOSTIC_STEPS, open_loop_error
from hrl.evaluation.policy_video import record_video
from hrl.evaluation.probe_episodes import DiagnosticRollouts
from hrl.run import hardware
from hrl.run.atomic_files import json_text, staged_texts, write_json, write_text_atomic
from hrl.run.config_match import MAY_CHANGE, differing_keys
from hrl.run.errors import FolderError, MixedScoresError, UnevaluatedRunsError
from hrl.run.eval_config import eval_config_for
from hrl.run.folder import RunFolder
from hrl.run.hardware import choose_device
from hrl.run.load import LoadedRun
from hrl.run.memory_estimate import acting_memory_estimate
from hrl.run.nan_dump import check_metrics, dump_on_nonfinite
from hrl.run.progress import EpisodeProgress
from hrl.run.provenance import describe


def evaluate_run(
    run: LoadedRun,
    folder: Path,
    command: str,
    episodes: int | None = None,
    splits: Sequence[str] | None = None,
    videos: int | None = None,
) -> pd.DataFrame:
    """Evaluate `run` and write tables and videos into `folder`; return the new scores.

    The tables are scores.csv, shuffled_scores.csv and skill_usage.csv. A policy with a world model
    also gets the errors of its predictions on the training split, and one that sets goals also how
    far from its goals it ends and how far the goals are from states that were met.

    The memory that it takes is printed first. With some splits only, scores of the other splits
    stay in the files (see the top of this file). The shuffle tests are played with the training
    split.

    Args:
        run: the policy and its configuration.
        folder: of the run.
        command: what the user typed, for the record.
        episodes: per task; by default evaluation.final_episodes of the run's configuration.
        splits: by default all of the suite.
        videos: number of training tasks to record a video of, by default all.

    Returns:
        One row an episode, with the column "intervention", which is "none" but for shuffle tests.

    Raises:
        OSError: the file system refused; earlier tables are whole, and the message says where the
            new ones are, if anywhere.
        ConfigError: an unknown split, or fewer than one episode.
        FolderError: the folder holds a run of another agent, or no run at all but other files, or
            was removed or replaced meanwhile.
        MixedScoresError: scores that would stay are of another checkpoint, of another
            configuration, or were played in another way.
        MemoryEstimateError: the episodes do not fit into memory side by side.
        NonFiniteError: an action, a reward or a score is not finite; the message names the dump.
    """
    files = RunFolder(folder)
    count = run.config.evaluation.final_episodes if episodes is None else episodes
    names = list(run.suite.splits if splits is None else dict.fromkeys(splits))
    _refuse(run, names, count)
    _refuse_folder_of_another(run, files)
    eval_config = eval_config_for(run.config, choose_device(run.config.device), count)
    record = _record(run, eval_config)
    kept = _Tables.kept(files, run, names, record)
    _check_memory(run, names, count)
    hardware.configure(run.config.threads)
    files.path.mkdir(parents=True, exist_ok=True)
    files.remove_abandoned()
    with files.watch() as watch, dump_on_nonfinite(files, run.counters):
        played = _play(run, names, eval_config)
        scores = played.scores.assign(
            method=run.config.method, seed=run.config.seed, frames=run.frames
        )[SCORE_COLUMNS]
        tables = _joined(run, files, [kept, _Tables.of(scores, played.usage)])
        try:
            watch.check()
            _describe(run, files, command)
            _write(files, tables, record)
        except (OSError, FolderError) as error:
            raise _kept_elsewhere(error, tables) from error
        _renew_diagnostics(run, files, eval_config, kept, names)
        for task in run.suite.tasks("train")[:videos]:
            watch.check()  # a video makes its folder
            _record_videos(run, files, eval_config, task)
    return scores


def evaluate_all(
    loaders: Mapping[Path, Callable[[], LoadedRun]],
    command: str,
    episodes: int | None = None,
    splits: Sequence[str] | None = None,
    videos: int | None = None,
) -> None:
    """Evaluate runs one after the other and print their mean returns.

    A run that fails does not stop the others.

    Args:
        loaders: what loads each run, by its folder.
        command: what the user typed, for the record.
        episodes: as of `evaluate_run`.
        splits: as of `evaluate_run`.
        videos: as of `evaluate_run`.

    Raises:
        UnevaluatedRunsError: some of several runs failed; it names them with the reasons. The error
            of a single run is raised as it is.
    """
    reasons: dict[Path, str] = {}
    for number, (folder, load) in enumerate(loaders.items(), 1):
        print(f"\n{folder}  ({number} of {len(loaders)})", flush=True)
        try:
            scores = evaluate_run(load(), folder, command, episodes, splits, videos)
        except (ValueError, OSError, MemoryError, RuntimeError, ArithmeticError) as error:
            if len(loaders) == 1:
                raise
            reasons[folder] = str(error)
            print(f"not evaluated: {error}", flush=True)
            continue
        print(score_table(scores), flush=True)
    if reasons:
        raise UnevaluatedRunsError(reasons, len(loaders))


def score_table(scores: pd.DataFrame) -> str:
    """Return a table of mean return and success by split and intervention, as text.

    The median of control steps to a success stands beside them.
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


def _diagnose(policy: Predictor, suite: Suite, eval_config: EvalConfig, files: RunFolder) -> None:
    """Write tables of what a world model, and a worker in it, can do on the training split."""
    seen = DiagnosticRollouts(policy, suite, "train", eval_config, DIAGNOSTIC_STEPS)
    errors = open_loop_error(policy, seen)
    _write_diagnostic(files.open_loop_error, errors)
    print(
        "squared error of predicted images, agent steps ahead\n"
        f"{errors.round(2).to_string(index=False)}"
    )
    if isinstance(policy, GoalReacher):
        reaching = goal_reaching(policy, seen)
        distances = goal_distance(policy, seen)
        _write_diagnostic(files.goal_reaching, reaching)
        _write_diagnostic(files.goal_distance, distances)
        print(
            "distance left to goals so many steps apart, steps of the worker\n"
            f"{goal_reaching_table(reaching)}"
        )
        print(f"distance to the nearest state and to any\n{goal_distance_table(distances)}")


def _write_diagnostic(path: Path, table: pd.DataFrame) -> None:
    """Write a table; raise NonFiniteQuantity where one of its numbers is not finite."""
    means = table.select_dtypes("number").mean(skipna=False)
    check_metrics({f"{path.stem}/{key}": float(mean) for key, mean in means.items()})
    write_text_atomic(path, table.to_csv(index=False))


def _refuse(run: LoadedRun, splits: Sequence[str], episodes: int) -> None:
    unknown = [split for split in splits if split not in run.suite.splits]
    if unknown:
        raise ConfigError(
            f"suite {run.suite.name} has no split {unknown[0]!r}; "
            f"choose from {', '.join(run.suite.splits)}"
        )
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")


def _check_memory(run: LoadedRun, splits: Sequence[str], episodes: int) -> None:
    """Print the memory that an evaluation takes, and refuse what does not fit."""
    estimate = acting_memory_estimate(
        run.config, run.suite, _worlds(run, splits, episodes), run.config.tracking.video_steps
    )
    print(estimate)
    estimate.check()


def _renew_diagnostics(
    run: LoadedRun,
    files: RunFolder,
    eval_config: EvalConfig,
    kept: _Tables,
    splits: Sequence[str],
) -> None:
    """Measure the world model on the training split; remove results whose scores are gone."""
    if "train" not in kept.scores["split"].to_numpy():
        for path in (files.open_loop_error, files.goal_reaching, files.goal_distance):
            path.unlink(missing_ok=True)
    if "train" in splits and isinstance(run.policy, Predictor):
        _diagnose(run.policy, run.suite, eval_config, files)


def _refuse_folder_of_another(run: LoadedRun, files: RunFolder) -> None:
    """Refuse to write into what another agent made: a policy that learns nothing names its folder.

    Raises:
        FolderError: the folder holds a run of another agent or something else.
    """
    if not files.holds_run():
        return
    name = run.config.agent.name
    saved = files.read_config().get("agent")
    other = saved.get("name") if isinstance(saved, dict) else saved
    if other != name:
        raise FolderError(f"{files} holds a run of agent {other}, not of {name}; name another")


def _worlds(run: LoadedRun, splits: Sequence[str], episodes: int) -> int:
    """Return the worlds of the split that is played in the most of them at once."""
    return max(worlds_at_once(run.suite, len(run.suite.tasks(split)), episodes) for split in splits)


def _play(run: LoadedRun, splits: Sequence[str], eval_config: EvalConfig) -> Evaluation:
    """Play every split as it is, then the training split with shuffles, if it has several tasks."""
    parts: list[tuple[Sequence[str], Sequence[str]]] = [(splits, INTERVENTIONS[:1])]
    if "train" in splits and len(run.suite.tasks("train")) > 1:
        parts.append((["train"], INTERVENTIONS[1:]))
    total = sum(count_episodes(run.policy, run.suite, *_of(part, eval_config)) for part in parts)
    with EpisodeProgress(total, enabled=run.config.tracking.progress) as progress:
        played = [
            evaluate(run.policy, run.suite, *_of(part, eval_config), progress=progress.add)
            for part in parts
        ]
    scores = pd.concat([part.scores for part in played], ignore_index=True)
    return Evaluation(scores, played[0].usage)


def _of(
    part: tuple[Sequence[str], Sequence[str]], eval_config: EvalConfig
) -> tuple[Sequence[str], EvalConfig, Sequence[str]]:
    """Return the arguments of `evaluate` for some splits under some interventions."""
    splits, interventions = part
    return splits, eval_config, interventions


def _record(run: LoadedRun, eval_config: EvalConfig) -> dict[str, Any]:
    """Return the values that must agree for two evaluations to stand in one table, as JSON."""
    return {
        "frames": run.frames,
        "episodes": eval_config.episodes,
        "seed": eval_config.seed,
        "frame_stack": eval_config.frame_stack,
        "image_size": eval_config.image_size,
    }


@dataclass(frozen=True)
class _Tables:
    """Hold the tables of an evaluation, or the rows of them that stay.

    Attributes:
        scores: episodes as they are.
        shuffled: episodes of the shuffle tests.
        usage: of skills.
    """

    scores: pd.DataFrame
    shuffled: pd.DataFrame
    usage: pd.DataFrame

    @classmethod
    def of(cls, scores: pd.DataFrame, usage: pd.DataFrame) -> _Tables:
        """Return the tables of newly played episodes."""
        plain = scores["intervention"] == "none"
        return cls(scores[plain].drop(columns="intervention"), scores[~plain], usage)

    @classmethod
    def kept(
        cls, files: RunFolder, run: LoadedRun, splits: Sequence[str], record: Mapping[str, Any]
    ) -> _Tables:
        """Return the rows of a folder that are of none of these splits.

        Raises:
            MixedScoresError: they cannot stand beside what `record` says.
        """
        scores = _others(files.scores, splits)
        shuffled = _others(files.shuffled_scores, splits)
        usage = _others(files.skill_usage, splits)
        if len(scores):
            _refuse_mixture(files, run, record)
        return cls(scores, shuffled, usage)


def _others(path: Path, splits: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a table that are of none of these splits, as text, to stay as they are.

    Without the file there are none.
    """
    if not path.exists():
        return pd.DataFrame({"split": []})
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[~table["split"].isin(list(splits))]
    except (ValueError, KeyError) as error:  # damaged, or no such table
        raise _unusable(path, error) from error


def _refuse_mixture(files: RunFolder, run: LoadedRun, record: Mapping[str, Any]) -> None:
    where = f"{files.scores} holds other splits, which would stay"
    advice = f"evaluate every split, or remove {files.scores.name}"
    if not files.evaluation.exists():
        raise MixedScoresError(
            f"{where}, and no {files.evaluation.name} says how they were played: {advice}"
        )
    try:
        different = differing_keys(json.loads(files.evaluation.read_text()), record)
    except (ValueError, AttributeError) as error:  # damaged, or no mapping
        raise _unusable(files.evaluation, error) from error
    different |= differing_keys(files.read_config(), run.plain, ignore=MAY_CHANGE)
    if different:
        named = ", ".join(
            f"{key} {old!r} there and {new!r} now" for key, (old, new) in different.items()
        )
        raise MixedScoresError(f"{where}, but were played otherwise ({named}): {advice}")


def _unusable(path: Path, error: Exception) -> MixedScoresError:
    return MixedScoresError(f"{path} cannot be read, so nothing can be added: {error}; remove it")


def _ordered(run: LoadedRun, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables and sort them by intervention, where there is one, then by split."""
    table = pd.concat([table for table in tables if len(table)] or [tables[-1]], ignore_index=True)
    places = {"split": list(run.suite.splits), "intervention": list(INTERVENTIONS)}
    for (
        column,
        order,
    ) in places.items():  # the later one counts first: each sort keeps the order it finds
        if column in table:
            table = table.iloc[np.argsort(table[column].map(order.index).to_numpy(), kind="stable")]
    return table


def _joined(run: LoadedRun, files: RunFolder, parts: Sequence[_Tables]) -> dict[Path, pd.DataFrame]:
    """Return the tables of several parts by their file, rows in the suite's order."""
    return {
        files.scores: _ordered(run, [part.scores for part in parts]),
        files.shuffled_scores: _ordered(run, [part.shuffled for part in parts]),
        files.skill_usage: _ordered(run, [part.usage for part in parts]),
    }


def _write(
    files: RunFolder, tables: Mapping[Path, pd.DataFrame], record: Mapping[str, Any]
) -> None:
    texts = {files.evaluation: json_text(files.evaluation, dict(record))} | {
        path: table.to_csv(index=False) for path, table in tables.items() if len(table)
    }
    with staged_texts(texts):
        # Gone while the tables change: after a kill in between nothing is taken for what it is not.
        files.evaluation.unlink(missing_ok=True)
        for path in tables.keys() - texts.keys():
            path.unlink(missing_ok=True)


def _kept_elsewhere(
    error: OSError | FolderError, tables: Mapping[Path, pd.DataFrame]
) -> OSError | FolderError:
    """Save tables that a run folder did not take among temporary files; return what to raise."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="scores-"))
        for path, table in tables.items():
            write_text_atomic(folder / path.name, table.to_csv(index=False))
    except OSError:  # the same disk, say
        return error
    where = f"(the tables of the episodes that were played are in {folder})"
    if isinstance(error, FolderError):
        return FolderError(f"{error} {where}")
    return OSError(error.errno, f"{error.strerror} {where}", error.filename)


def _describe(run: LoadedRun, files: RunFolder, command: str) -> None:
    """Write the files of a run folder that training would have written, for a scripted policy."""
    if run.frames == 0:
        files.write_config(run.plain)
        write_json(files.environment, describe(command, {"total": 0}))


def _record_videos(run: LoadedRun, files: RunFolder, eval_config: EvalConfig, task: Task) -> None:
    path = files.video(run.frames, task.name)
    record_video(run.policy, run.suite, task, eval_config, run.config.tracking.video_steps, path)
    record_imagination(run.policy, run.suite, task, eval_config, path)
