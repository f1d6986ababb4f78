#!/usr/bin/env python3
"""Lets a policy act and writes what it did as a video.

scripts/play.py runs/point_mass/skills/seed_0                      one film per training task
scripts/play.py RUN --split=interpolation --steps=500 --out=films
scripts/play.py agent=random suite=walker_speed                    also agent=zero
"""

from __future__ import annotations

import sys
from pathlib import Path

from hrl.cli import options, positive, run_or_explain, split_arguments
from hrl.config import ConfigError
from hrl.evaluation.imagination_video import record_imagination
from hrl.evaluation.policy_video import record_video
from hrl.run.hardware import choose_device
from hrl.run.load import load_run, load_scripted
from hrl.run.memory_estimate import acting_memory_estimate
from hrl.run.train import eval_config_for


def main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    rest, chosen = options(
        arguments, {"--split": str, "--steps": positive, "--out": Path, "--device": str}
    )
    folders, overrides = split_arguments(rest)
    if len(folders) > 1 or bool(folders) == bool(overrides):
        raise ConfigError("give one run folder, or agent=random|zero with a suite")
    run = (
        load_run(Path(folders[0]), chosen.get("--device", ""))
        if folders
        else load_scripted(overrides)
    )
    split = chosen.get("--split", "train")
    if split not in run.suite.splits:
        raise ConfigError(
            f"suite {run.suite.name} has no split {split!r}; choose from {', '.join(run.suite.splits)}"
        )
    out = chosen.get("--out", Path(folders[0] if folders else run.config.folder) / "play")
    eval_config = eval_config_for(run.config, choose_device(run.config.device), episodes=1)
    steps = chosen.get("--steps", run.config.tracking.video_steps)
    budget = acting_memory_estimate(run.config, run.suite, worlds=1, film_steps=steps)
    print(budget)
    budget.check()
    for task in run.suite.tasks(split):
        path = record_video(
            run.policy, run.suite, task, eval_config, steps, out / f"{split}_{task.name}.mp4"
        )
        print(
            *[path, *record_imagination(run.policy, run.suite, task, eval_config, path)], sep="\n"
        )


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
