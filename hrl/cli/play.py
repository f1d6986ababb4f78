"""Record videos of a policy, as `pixel-hrl play` does."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hrl.cli.parser import CommandParser, UsageError, folder_path, image_size, names, positive

if TYPE_CHECKING:
    from envs import Task
    from hrl.run.load import LoadedRun

EXAMPLES = """examples:
  pixel-hrl play runs/point_mass/skills/seed_0           one video per training task
  pixel-hrl play RUN --splits=interpolation --steps=500 --size=480 --out=videos
  pixel-hrl play agent=random suite=walker_speed         also agent=zero"""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("play", "Let a policy act and record it as videos.", EXAMPLES)
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="RUN|KEY=VALUE",
        help="one run folder; or agent=random|zero with a suite",
    )
    parser.add_argument(
        "--splits", type=names, default=["train"], metavar="A,B", help="splits (default: train)"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="agent steps of a video")
    parser.add_argument(
        "--out", type=folder_path, metavar="DIR", help="where to write (default: RUN/play)"
    )
    parser.add_argument(
        "--size", type=image_size, default=192, metavar="N", help="side in pixels (default: 192)"
    )
    parser.add_argument("--device", default="", help="where to act (default: as in training)")
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Record one video per task of the chosen splits."""
    from hrl.cli.runs import chosen_runs
    from hrl.evaluation.imagination_video import record_imagination
    from hrl.evaluation.policy_video import record_video
    from hrl.run.eval_config import eval_config_for
    from hrl.run.folder import RunFolder
    from hrl.run.hardware import choose_device
    from hrl.run.memory_estimate import acting_memory_estimate
    from hrl.run.nan_dump import dump_on_nonfinite

    runs = chosen_runs(options.targets, options.device)
    if len(runs) != 1:
        raise UsageError("give one run folder, or agent=random|zero with suite=NAME")
    (folder, load), *_ = runs.items()
    run = load()
    tasks = _tasks(run, options.splits)
    eval_config = eval_config_for(run.config, choose_device(run.config.device), episodes=1)
    steps = options.steps or run.config.tracking.video_steps
    estimate = acting_memory_estimate(run.config, run.suite, 1, steps, options.size)
    print(estimate)
    estimate.check()
    files = RunFolder(folder)
    files.remove_abandoned()
    with dump_on_nonfinite(files, run.counters):
        for name, task in tasks.items():
            out = (options.out or files.play) / name
            path = record_video(run.policy, run.suite, task, eval_config, steps, out, options.size)
            imagined = record_imagination(
                run.policy, run.suite, task, eval_config, path, size=options.size
            )
            print(path, *imagined, sep="\n")


def _tasks(run: LoadedRun, splits: list[str]) -> dict[str, Task]:
    """Return the tasks of the splits by the names of their videos."""
    unknown = [split for split in splits if split not in run.suite.splits]
    if unknown:
        raise UsageError(
            f"suite {run.suite.name} has no split {unknown[0]!r}; "
            f"choose from {', '.join(run.suite.splits)}"
        )
    return {f"{split}_{task.name}.mp4": task for split in splits for task in run.suite.tasks(split)}
