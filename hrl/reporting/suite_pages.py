"""Write a page on a suite: images of its tasks, its rewards, and reference scores."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from datetime import date
from itertools import takewhile
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from envs import Suite, make_vec
from envs.external.family import ExternalFamily
from envs.families import FAMILIES, resolve
from envs.families.behaviours import AT_SPEED, BehaviourFamily
from envs.families.family import Family, TaskFamily
from envs.families.many_mazes import ManyMazes, is_told_goal
from envs.families.mixed import MixedFamily
from envs.resources import config_files
from envs.tasks import Task
from envs.vector.external import ExternalVectorEnv
from hrl.agents.base import Policy
from hrl.agents.scripted import RandomPolicy, ZeroPolicy
from hrl.config import EvaluationScheduleConfig
from hrl.evaluation.episodes import SCORE_COLUMNS, EvalConfig, evaluate
from hrl.reporting.report import save_figure
from hrl.reporting.study import plural
from hrl.reporting.tables import read_scores
from hrl.run.atomic_files import write_text_atomic
from hrl.run.provenance import hardware
from hrl.run.stepping_speed import measure_speed

MOMENTS = 8
SIZE = 64
GAP = 3
ROW_HEIGHT = 0.94  # inches
IMAGE_HEIGHT = 0.86  # inches
CHARACTER_WIDTH = 0.075  # inches, of a label's widest common letters at 8 points
SHEET_FORMAT = {"quality": 30, "method": 6}  # WebP: small, and legible at this size
# Attributes of families that their docstrings name.
NUMBERS = ("fastest", "half_width", "cell", "arena", "top_speed", "hold_steps")
TIMED_WORLDS = 32
TIMED_SECONDS = 2.0


def write_page(
    suite: Suite, folder: Path, reference_scores: Path, episodes: int, command: str
) -> Path:
    """Write NAME.webp, which shows each task in a row of images, and NAME.md beside it.

    Args:
        suite: what the page is about.
        folder: where the page goes; made where it is missing.
        reference_scores: folder of NAME.csv, the scores of random actions and of zero actions; made
            where it is missing.
        episodes: of each task with each of these two policies.
        command: what wrote the page, for the record.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(suite.action_size, 0),
        "zero": ZeroPolicy(suite.action_size),
    }
    scores = pd.concat(
        [_scores(suite, name, policy, episodes) for name, policy in policies.items()]
    )
    reference_scores.mkdir(parents=True, exist_ok=True)
    write_text_atomic(reference_scores / f"{suite.name}.csv", scores.to_csv(index=False))
    rows = [(split, task) for split in suite.splits for task in suite.tasks(split)]
    labels = [f"{task.name}\n{split}" for split, task in rows]
    sheet = contact_sheet(moments(suite, [task for _, task in rows]), labels)
    save_figure(sheet, folder / f"{suite.name}.webp", dpi=100, pil_kwargs=SHEET_FORMAT)
    path = folder / f"{suite.name}.md"
    write_text_atomic(path, _page(suite, scores, _speed(_core_milliseconds(suite), command)))
    return path


def rewrite_text(suite: Suite, folder: Path, reference_scores: Path) -> Path:
    """Write NAME.md anew from the stored scores; the images and the measured speed stay.

    Returns:
        The page's path.

    Raises:
        OSError: the page was never written.
        RunFolderError: the stored scores cannot be read.
    """
    path = folder / f"{suite.name}.md"
    speed = path.read_text(encoding="utf-8").rstrip().split("\n\n")[-1]
    scores = read_scores(reference_scores / f"{suite.name}.csv")
    write_text_atomic(path, _page(suite, scores, speed))
    return path


def moments(suite: Suite, tasks: Sequence[Task]) -> np.ndarray:
    """Return images of random play, evenly spaced over an episode of each task.

    Returns:
        uint8 [task, moment, height, width, 3].
    """
    env = make_vec(suite, len(tasks), list(tasks), evaluation=True, image_size=SIZE)
    lengths = [task.episode_length // suite.action_repeat for task in tasks]
    wanted = np.stack(
        [np.linspace(0, length - 1, MOMENTS).round().astype(int) for length in lengths]
    )
    shown = np.zeros((len(tasks), MOMENTS, SIZE, SIZE, 3), np.uint8)
    rng = np.random.default_rng(0)
    observation, _ = env.reset()
    for step in range(max(lengths)):
        rows, columns = np.nonzero(wanted == step)
        shown[rows, columns] = observation["pixels"][rows]
        observation = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))[0]
    env.close()
    return shown


def contact_sheet(images: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw a row of images for each label, with a left margin that the longest label fits into.

    Args:
        images: uint8 [row, moment, height, width, 3].
        labels: one a row; they may have several lines.
    """
    longest = max(len(line) for label in labels for line in label.splitlines())
    left = 0.2 + CHARACTER_WIDTH * longest
    width = left + 0.9 * images.shape[1] + 0.05
    height = ROW_HEIGHT * len(labels)
    figure = Figure(figsize=(width, height))
    shown = np.pad(images, [(0, 0)] * 3 + [(0, GAP), (0, 0)], constant_values=255)
    for row, (strip, label) in enumerate(zip(shown, labels, strict=True)):
        bottom = height - ROW_HEIGHT * (row + 1) + (ROW_HEIGHT - IMAGE_HEIGHT) / 2
        place = (left / width, bottom / height, 1 - (left + 0.05) / width, IMAGE_HEIGHT / height)
        axes = figure.add_axes(place)
        axes.imshow(np.concatenate(list(strip), axis=1)[:, :-GAP], aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, parse_math=False)
    return figure


# Private functions.


def _scores(suite: Suite, method: str, policy: Policy, episodes: int) -> pd.DataFrame:
    """Return the scores of the episodes that every evaluation plays, as scores.csv has them."""
    eval_config = EvalConfig(
        episodes, EvaluationScheduleConfig().seed, 1, SIZE, torch.device("cpu")
    )
    scores = evaluate(policy, suite, list(suite.splits), eval_config).scores
    return scores.assign(method=method, seed=0, frames=0)[SCORE_COLUMNS].drop(
        columns="intervention"
    )


def _core_milliseconds(suite: Suite) -> float:
    """Measure one core's time for an agent step of one world, with its image.

    `TIMED_WORLDS` worlds play training tasks side by side. The time is that of the processors and
    not of the clock, so that it hardly depends on what else the machine is doing.
    """
    env = make_vec(suite, TIMED_WORLDS, image_size=SIZE, random_initial_episode_step=True)
    env.reset()
    processes = [os.getpid(), *(env.worker_processes if isinstance(env, ExternalVectorEnv) else [])]
    measured = measure_speed(env.step, (TIMED_WORLDS, suite.action_size), TIMED_SECONDS, processes)
    env.close()
    return measured.cpu_milliseconds


def _speed(milliseconds: float, command: str) -> str:
    return (
        f"An agent step of one world, image of {SIZE}x{SIZE} included, took {milliseconds:.2f} ms "
        f"of one core with {TIMED_WORLDS} worlds side by side: {1000 / milliseconds:,.0f} agent "
        f"steps a second and core ({hardware()['cpu']}, {date.today()}). Written by `{command}`."
    )


def _page(suite: Suite, scores: pd.DataFrame, speed: str) -> str:
    episodes = int(scores["episode"].max()) + 1
    repeat = suite.action_repeat
    summed = "; rewards are summed over them" if repeat > 1 else ""
    lines = [
        f"# {suite.name}",
        f"![Each task in a row of {MOMENTS} moments of an episode of random play]"
        f"({suite.name}.webp)",
        _header(suite),
        *dict.fromkeys(_documents(suite.family)),
        f"An agent step is {repeat} {plural(repeat, 'control step')}{summed}. A "
        f"return of {suite.reference_return:g} counts as 1. The last two columns are mean returns "
        f"of {episodes} {plural(episodes, 'episode')} a task of policies that learn nothing: "
        "random actions, and zero actions. Their episodes start where those of every evaluation "
        "do.",
        _task_table(suite, scores),
        speed,
    ]
    return "\n\n".join(lines) + "\n"


def _task_table(suite: Suite, scores: pd.DataFrame) -> str:
    returns = scores.groupby(["split", "task", "method"])["return"].mean().unstack("method")
    lines = [
        "| split | task | parameters | task vector | random actions | zero actions |",
        "|---|---|---|---|---:|---:|",
    ]
    for split in suite.splits:
        for task in suite.tasks(split):
            changes = [pair for values in task.variations().values() for pair in values.items()]
            given = ", ".join(
                f"{key} {value}" for key, value in [*task.parameters.items(), *changes]
            )
            vector = _task_vector(suite, task)
            random, zero = returns.loc[(split, task.name), ["random", "zero"]]
            lines.append(
                f"| {split} | {task.name} | {given} | {vector} | {random:.3g} | {zero:.3g} |"
            )
    return "\n".join(lines)


def _task_vector(suite: Suite, task: Task) -> str:
    if task.family in FAMILIES and isinstance(resolve(task), ManyMazes) and is_told_goal(task):
        return "of each episode"
    return ", ".join(f"{value:.3g}" for value in suite.family.task_vector(task).tolist())


def one_success(texts: Sequence[str]) -> list[str]:
    """Leave out a base class's definition of success where a derived class has another one.

    Args:
        texts: docstrings of a family's classes, the most derived first.
    """
    kept: list[str] = []
    for text in texts:
        known = any(_SUCCESS.search(earlier) for earlier in kept)
        kept.append(_SUCCESS.sub("", text).strip() if known else text)
    return [text for text in kept if text]


# From "Success:" to the end of its paragraph.
_SUCCESS = re.compile(r"\s*\bSuccess: .*?(?=\n\s*\n|\Z)", re.DOTALL)


def _documents(family: TaskFamily) -> list[str]:
    """Return the code's documents of a family: docstrings of its classes, its reward's source."""
    if isinstance(family, ExternalFamily):
        module = inspect.getmodule(type(family))
        own = inspect.getdoc(type(family))
        return [text for text in (module and inspect.getdoc(module), own) if text]
    classes = [
        cls
        for cls in type(family).__mro__
        if cls.__module__.startswith("envs.") and cls not in (Family, TaskFamily)
    ]
    texts = one_success([text for cls in classes if (text := inspect.getdoc(cls))])
    numbers = {key: getattr(family, key) for key in NUMBERS if hasattr(family, key)}
    if numbers:
        texts.append(
            "Here " + ", ".join(f"`{key}` is {value:g}" for key, value in numbers.items()) + "."
        )
    if isinstance(family, MixedFamily):
        return texts + [text for body in family.families for text in _documents(body)]
    if isinstance(family, BehaviourFamily):
        others = [
            behaviour.reward for name, behaviour in family.behaviours.items() if name != AT_SPEED
        ]
        return [*texts, *_documents(family.at_speed), _source(*others)]
    return [*texts, _source(cast(Family, family).reward)]


def _source(*functions: Callable[..., object]) -> str:
    """Return the source of functions, after the constants and functions of theirs that they use."""
    constants: dict[str, object] = {}
    found: list[Callable[..., object]] = []

    def visit(one: Callable[..., object]) -> None:
        plain = inspect.unwrap(one)
        for name in plain.__code__.co_names:
            value = plain.__globals__.get(name)
            if (
                inspect.isfunction(value)
                and value.__module__ == one.__module__
                and value not in found
            ):
                visit(value)
            if name.isupper() and isinstance(value, int | float | str | tuple):
                constants[name] = value
        found.append(one)

    for function in functions:
        visit(function)
    sources = [
        textwrap.dedent(inspect.getsource(one)).removeprefix("@override\n").rstrip()
        for one in found
    ]
    named = (
        ["\n".join(f"{name} = {value!r}" for name, value in constants.items())] if constants else []
    )
    return "```python\n" + "\n\n\n".join([*named, *sources]) + "\n```"


def _header(suite: Suite) -> str:
    """Return the comment at the top of the suite's file, which says what its splits are.

    It is empty for a suite without a file, as of an environment that is registered with Gymnasium.
    """
    path = config_files("suite").get(suite.name)
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    return "\n".join(
        line.removeprefix("#").strip()
        for line in takewhile(lambda line: line.startswith("#"), lines)
    )
