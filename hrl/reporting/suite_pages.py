"""A page on a suite: what its tasks look like, what they reward, what random play and doing nothing
earn.
"""

from __future__ import annotations

import inspect
import os
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
from envs.families.behaviours import AT_SPEED, BehaviourFamily
from envs.families.family import Family, TaskFamily
from envs.families.mixed import MixedFamily
from envs.resources import config_files
from envs.tasks import Task
from envs.vector.external import ExternalVectorEnv
from hrl.agents.base import Policy
from hrl.agents.scripted import RandomPolicy, ZeroPolicy
from hrl.config import EvaluationScheduleConfig
from hrl.evaluation.episodes import SCORE_COLUMNS, EvalConfig, evaluate
from hrl.run.provenance import hardware, write_text_atomic
from hrl.run.stepping_speed import measure

FRAMES, SIZE, GAP = 8, 64, 3
NUMBERS = (
    "fastest",
    "half_width",
    "cell",
    "hold_steps",
)  # of families, as their docstrings name them
WORLDS, TIMED_SECONDS = 32, 2.0


def write_page(suite: Suite, folder: Path, baselines: Path, episodes: int, command: str) -> Path:
    """Writes NAME.png, one row a task and several moments of random play, and NAME.md beside it.

    Args:
        folder: made where it is missing.
        baselines: folder of NAME.csv, the scores of both policies that learn nothing; made where it
            is missing.
        episodes: of each task and each of the two policies that learn nothing.
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
    baselines.mkdir(parents=True, exist_ok=True)
    write_text_atomic(baselines / f"{suite.name}.csv", scores.to_csv(index=False))
    returns = (
        scores.groupby(["split", "task", "method"], sort=False)["return"].mean().unstack("method")
    )
    _contact_sheet(suite).savefig(folder / f"{suite.name}.png", dpi=100)
    path = folder / f"{suite.name}.md"
    write_text_atomic(path, _page(suite, returns, _core_milliseconds(suite), episodes, command))
    return path


def moments(suite: Suite, tasks: Sequence[Task]) -> np.ndarray:
    """[task, moment, height, width, 3]: images of random play, evenly spaced over an episode of
    each task.
    """
    env = make_vec(suite, len(tasks), list(tasks), evaluation=True, image_size=SIZE)
    lengths = [task.episode_length // suite.action_repeat for task in tasks]
    wanted = np.stack(
        [np.linspace(0, length - 1, FRAMES).round().astype(int) for length in lengths]
    )
    shown = np.zeros((len(tasks), FRAMES, SIZE, SIZE, 3), np.uint8)
    rng, (observation, _) = np.random.default_rng(0), env.reset()
    for step in range(max(lengths)):
        rows, columns = np.nonzero(wanted == step)
        shown[rows, columns] = observation["pixels"][rows]
        observation = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))[0]
    env.close()
    return shown


# Private functions.


def _scores(suite: Suite, method: str, policy: Policy, episodes: int) -> pd.DataFrame:
    """Of the episodes that every evaluation plays, columns SCORE_COLUMNS."""
    eval_config = EvalConfig(
        episodes, EvaluationScheduleConfig().seed, 1, SIZE, torch.device("cpu")
    )
    scores = evaluate(policy, suite, list(suite.splits), eval_config).scores
    return scores.assign(method=method, seed=0, frames=0)[SCORE_COLUMNS]


def _core_milliseconds(suite: Suite) -> float:
    """Of an agent step of one world, with its image, when `WORLDS` worlds play training tasks side
    by side.

    Of processors' time and not of the clock's, so that it hardly depends on what else the machine
    is doing.
    """
    env = make_vec(suite, WORLDS, image_size=SIZE, random_initial_episode_step=True)
    env.reset()
    processes = [os.getpid(), *(env.worker_processes if isinstance(env, ExternalVectorEnv) else [])]
    measured = measure(env.step, (WORLDS, suite.action_size), TIMED_SECONDS, processes)
    env.close()
    return measured.cpu_milliseconds


def _contact_sheet(suite: Suite) -> Figure:
    rows = [(split, task) for split in suite.splits for task in suite.tasks(split)]
    figure = Figure(figsize=(2.2 + 0.9 * FRAMES, 0.94 * len(rows)), layout="constrained")
    shown = np.pad(
        moments(suite, [task for _, task in rows]),
        [(0, 0)] * 3 + [(0, GAP), (0, 0)],
        constant_values=255,
    )
    for axes, images, (split, task) in zip(
        figure.subplots(len(rows), 1, squeeze=False).flat, shown, rows, strict=True
    ):
        axes.imshow(np.concatenate(list(images), axis=1)[:, :-GAP], aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        label = f"{task.name}\n{split}"
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def _page(
    suite: Suite, returns: pd.DataFrame, milliseconds: float, episodes: int, command: str
) -> str:
    table = [
        "| split | task | parameters | task vector | random | doing nothing |",
        "|---|---|---|---|---:|---:|",
    ]
    for split in suite.splits:
        for task in suite.tasks(split):
            differs = [pair for values in task.variations().values() for pair in values.items()]
            given = ", ".join(
                f"{key} {value}" for key, value in [*task.parameters.items(), *differs]
            )
            vector = ", ".join(f"{value:.3g}" for value in suite.family.task_vector(task).tolist())
            random, still = returns.loc[(split, task.name), ["random", "zero"]]
            table.append(
                f"| {split} | {task.name} | {given} | {vector} | {random:.3g} | {still:.3g} |"
            )
    lines = [
        f"# {suite.name}",
        f"![One row a task, {FRAMES} moments of an episode of random play]({suite.name}.png)",
        _header(suite),
        *dict.fromkeys(_documents(suite.family)),
        f"An agent's step is {suite.action_repeat} control steps; rewards are summed over them. A return of "
        f"{suite.reference_return:g} counts as 1. Mean returns of {episodes} episodes a task of policies that learn "
        "nothing, which start where every evaluation does:",
        "\n".join(table),
        f"An agent step of one world, image of {SIZE}x{SIZE} included, took {milliseconds:.2f} ms of one core with "
        f"{WORLDS} worlds side by side: {1000 / milliseconds:,.0f} agent steps a second and core ({hardware()['cpu']}, "
        f"{date.today()}). Written by `{command}`.",
    ]
    return "\n\n".join(lines) + "\n"


def _documents(family: TaskFamily) -> list[str]:
    """What the code says of a family: its classes' docstrings, and rewards as they are computed."""
    if isinstance(family, ExternalFamily):
        module, own = inspect.getmodule(type(family)), inspect.getdoc(type(family))
        return [text for text in (module and inspect.getdoc(module), own) if text]
    classes = [cls for cls in type(family).__mro__ if cls.__module__.startswith("envs.")]
    texts = [text for cls in classes if (text := inspect.getdoc(cls))]
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
    """Functions, after the constants of their modules that they read and the functions that they
    call.
    """
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
    sources = [textwrap.dedent(inspect.getsource(one)).rstrip() for one in found]
    named = (
        ["\n".join(f"{name} = {value!r}" for name, value in constants.items())] if constants else []
    )
    return "```python\n" + "\n\n\n".join([*named, *sources]) + "\n```"


def _header(suite: Suite) -> str:
    """The comment at the top of the suite's file, which says what its splits are."""
    lines = config_files("suite")[suite.name].read_text(encoding="utf-8").splitlines()
    return "\n".join(
        line.removeprefix("#").strip()
        for line in takewhile(lambda line: line.startswith("#"), lines)
    )
