"""Measure what fine-tuning makes a policy forget: scores of the tasks that it was trained on."""

from __future__ import annotations

import pandas as pd

from envs import Suite
from hrl.config import RunConfig
from hrl.evaluation.episodes import evaluate, worlds_at_once
from hrl.run.atomic_files import write_text_atomic
from hrl.run.eval_config import eval_config_for
from hrl.run.finetune_source import FinetuneSource
from hrl.run.folder import RunFolder
from hrl.run.hardware import choose_device
from hrl.run.load import LoadedRun, load_run, loaded_run
from hrl.run.memory_estimate import acting_memory_estimate
from hrl.run.nan_dump import dump_on_nonfinite

SPLIT = "train"


def check_memory(config: RunConfig, suite: Suite) -> None:
    """Refuse what `measure_forgetting` would not fit into memory for.

    Args:
        config: of the fine-tuning run.
        suite: of the source.

    Raises:
        MemoryEstimateError: names the largest parts.
    """
    episodes = config.evaluation.final_episodes
    worlds = worlds_at_once(suite, len(suite.tasks(SPLIT)), episodes)
    acting_memory_estimate(config, suite, worlds).check()


def measure_forgetting(source: FinetuneSource, files: RunFolder) -> None:
    """Play the source's training tasks before and after, and write forgetting.csv.

    The table has one row an episode; `frames` are those of fine-tuning, 0 before. Both policies
    meet the same starts. Nothing is played where the table is there already.

    Args:
        source: what fine-tuning started from.
        files: of the fine-tuning run, which has a checkpoint.
    """
    after = load_run(files.path)
    if _is_measured(files, after):
        return
    before = loaded_run(source.composed, source.policy, after.config.device)
    print(f"playing the training tasks of {source.folder}, before and after", flush=True)
    with files.lock() as lock, dump_on_nonfinite(files, after.counters):
        rows = pd.concat(
            [
                _play(before, source.suite, after.config).assign(frames=0),
                _play(after, source.suite, after.config).assign(frames=after.frames),
            ]
        ).assign(method=after.config.method, seed=after.config.seed)
        order = ["method", "seed", "split", "task", "frames", "episode", "return", "success"]
        order += ["steps_to_success", "length", "layout", "path_length"]
        lock.check()
        write_text_atomic(files.forgetting, rows[order].to_csv(index=False))
    means = rows.groupby("frames")["return"].mean()
    print(f"mean return there: {means[0]:.1f} before, {means[after.frames]:.1f} after")


def _play(run: LoadedRun, suite: Suite, config: RunConfig) -> pd.DataFrame:
    """Return one row an episode of the training tasks of a suite."""
    device = choose_device(config.device)
    eval_config = eval_config_for(config, device, config.evaluation.final_episodes)
    return evaluate(run.policy, suite, [SPLIT], eval_config).scores


def _is_measured(files: RunFolder, run: LoadedRun) -> bool:
    if not files.forgetting.exists():
        return False
    try:
        counts = pd.read_csv(files.forgetting).groupby(["frames", "task"]).size()
    except (ValueError, KeyError):  # damaged, or no such table
        return False
    frames = set(counts.index.get_level_values("frames"))
    return frames == {0, run.frames} and set(counts) == {run.config.evaluation.final_episodes}
