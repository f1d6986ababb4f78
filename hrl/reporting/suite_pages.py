"""Write a page on a suite for readers, from its data and its family's description."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from itertools import takewhile
from pathlib import Path

import pandas as pd
import torch

from envs import Suite, make_vec
from envs.families import FAMILIES, resolve
from envs.families.description import FamilyDescription
from envs.families.family import TaskFamily
from envs.families.many_mazes import ManyMazes, is_told_goal
from envs.resources import config_files
from envs.tasks import ParameterValue, Task
from envs.vector.external import ExternalVectorEnv
from hrl.agents.base import Policy
from hrl.agents.scripted import RandomPolicy, ZeroPolicy
from hrl.config import EvaluationScheduleConfig
from hrl.evaluation.episodes import SCORE_COLUMNS, EvalConfig, evaluate
from hrl.reporting import suite_pictures
from hrl.reporting.study import plural
from hrl.reporting.tables import read_scores
from hrl.run.atomic_files import write_text_atomic
from hrl.run.provenance import hardware
from hrl.run.stepping_speed import measure_speed

SIZE = 64
TIMED_WORLDS = 32
TIMED_SECONDS = 2.0
UNDESCRIBED = "Nobody has described this family yet: it has no `description`."
INDEX_BEGIN = "<!-- suites: `pixel-hrl suites` writes this table -->"
INDEX_END = "<!-- end of suites -->"
EMPTY_INDEX = f"# Task families\n\n{INDEX_BEGIN}\n{INDEX_END}\n"
_MOST_VALUES = 6  # that are listed one by one


def write_page(
    suite: Suite, folder: Path, reference_scores: Path, episodes: int, command: str
) -> Path:
    """Play the suite and write its page, NAME.md, with the pictures that belong to it.

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
    suite_pictures.draw(suite, folder)
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


def write_index(suites: Iterable[Suite], folder: Path) -> Path:
    """Write the table of these suites in index.md, and leave the text around it; return its path.

    A suite whose page is not in the folder is left out.
    """
    rows = []
    for suite in suites:
        if not (folder / f"{suite.name}.md").exists():
            continue
        described = [one.description for one in _families(suite)]
        bodies = "; ".join(dict.fromkeys(one.body for one in described if one)) or "?"
        goals = " ".join(dict.fromkeys(one.goal for one in described if one)) or UNDESCRIBED
        picture = f"{suite.name}{suite_pictures.THUMBNAIL}"
        shown = f"![{suite.name}]({picture})" if (folder / picture).exists() else ""
        train = len(suite.tasks("train"))
        rows.append(
            f"| {shown} | [{suite.name}]({suite.name}.md) | {_capital(bodies)}. {goals} | "
            f"{train} + {len(suite.all_tasks) - train} |"
        )
    table = [
        INDEX_BEGIN,
        "",
        "| | suite | body, and what it must do | tasks: training + held out |",
        "|---|---|---|---:|",
        *rows,
        "",
        INDEX_END,
    ]
    path = folder / "index.md"
    around = path.read_text(encoding="utf-8") if path.exists() else EMPTY_INDEX
    before, _, rest = around.partition(INDEX_BEGIN)
    after = rest.partition(INDEX_END)[2]
    write_text_atomic(path, before + "\n".join(table) + after)
    return path


# Private functions: what is measured.


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


# Private functions: the page.


def _page(suite: Suite, scores: pd.DataFrame, speed: str) -> str:
    families = _families(suite)
    parts = [
        f"# {suite.name}",
        f"![Moments of an episode of random play]({suite.name}{suite_pictures.STRIP})",
        _header(suite),
        "## What the robot must do",
        *_each(families, _goal),
        _timing(suite),
        "## What it observes",
        *_each(families, _observation),
        _action(suite),
        "## Reward",
        *_each(families, lambda family: _rewards(family, suite)),
        "## Splits and reference scores",
        _reference_note(suite, scores),
        _split_table(suite, scores),
        '<details markdown="1">\n<summary>All tasks</summary>',
        _task_table(suite, scores),
        "</details>",
        "Moments of an episode of random play, for some training tasks and one task of each other "
        "split. Agents see 64 x 64 pixels.",
        f"![Moments of random play, one task a row]({suite.name}.webp)",
        "## Speed",
        speed,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _families(suite: Suite) -> list[TaskFamily]:
    """Return the family of a suite, or of each of its bodies."""
    if suite.mixed:
        return list(dict.fromkeys(resolve(task) for task in suite.all_tasks))
    return [suite.family]


def _each(families: Sequence[TaskFamily], write: Callable[[TaskFamily], str]) -> list[str]:
    """Return a text for each family, under the body's name where there are several."""
    texts = []
    for family in families:
        if len(families) > 1 and family.description is not None:
            texts.append(f"**{_capital(family.description.body)}**")
        texts.append(write(family))
    return texts


def _goal(family: TaskFamily) -> str:
    described = family.description
    if described is None:
        return UNDESCRIBED
    rows = {
        "Body": f"{_capital(described.body)}.",
        "Start": described.start,
        "Success": described.success,
        "From": described.source,
    }
    return f"{described.goal}\n\n{_bullets(rows)}"


def _timing(suite: Suite) -> str:
    repeat = suite.action_repeat
    lengths = sorted({task.episode_length for task in suite.all_tasks})
    seconds = {scene.model.opt.timestep * scene.substeps for scene in suite.scenes()}
    step = f"{repeat} {plural(repeat, 'control step')}"
    if len(seconds) == 1:
        step += f", {repeat * seconds.pop():g} s"
    summed = "; rewards are summed over them" if repeat > 1 else ""
    span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    rows = {
        "Agent step": f"{_capital(step)}{summed}.",
        "Episode": f"At most {span} control steps.",
        "Score of 1": f"A return of {suite.reference_return:g}.",
    }
    return _bullets(rows)


def _observation(family: TaskFamily) -> str:
    described = family.description
    if described is None:
        return ""
    state = described.state or "Not possible with this family."
    return _bullets(
        {
            "Image": described.image,
            f"Task vector, {_numbers(family.task_size)}": described.task_vector,
            "`observation=state`": state,
        }
    )


def _action(suite: Suite) -> str:
    counts = {suite.actuator_count(task) for task in suite.all_tasks}
    padded = " Smaller bodies use the first ones; a mask says which." if len(counts) > 1 else ""
    told = ""
    if suite.mixed:
        told = " The task vector begins with a one-hot over the bodies."
    return f"An action has {_numbers(suite.action_size)} in [-1, 1].{padded}{told}"


def _rewards(family: TaskFamily, suite: Suite) -> str:
    described = family.description
    if described is None:
        return UNDESCRIBED
    by_formula: dict[str, list[str]] = {}
    for name in _reward_names(described, suite):
        by_formula.setdefault(described.rewards[name], []).append(name)
    parameter = described.reward_parameter
    depends = f"The reward of a control step depends on the task's `{parameter}`."
    texts = [depends if parameter else "The reward of a control step is"]
    for formula, names in by_formula.items():
        if parameter:
            texts.append(f"For {', '.join(f'`{name}`' for name in names)}:")
        texts.append(f"$$\n{formula}\n$$")
    return "\n\n".join([*texts, described.symbols])


def _reward_names(described: FamilyDescription, suite: Suite) -> list[str]:
    """Return the keys of the formulas that tasks of the suite have, in the family's order."""
    if not described.reward_parameter:
        return list(described.rewards)
    used = {task.parameters.get(described.reward_parameter) for task in suite.all_tasks}
    return [name for name in described.rewards if name in used]


def _reference_note(suite: Suite, scores: pd.DataFrame) -> str:
    episodes = int(scores["episode"].max()) + 1
    return (
        f"The last two columns are mean returns of {episodes} {plural(episodes, 'episode')} a task "
        "of policies that learn nothing: random actions, and zero actions. Their episodes start "
        "where those of every evaluation do. Reports count random actions as 0 and a return of "
        f"{suite.reference_return:g} as 1."
    )


def _split_table(suite: Suite, scores: pd.DataFrame) -> str:
    returns = _returns(scores).groupby(level="split").mean()
    lines = ["| split | tasks | what they are | random | zero |", "|---|---:|---|---:|---:|"]
    for split, tasks in suite.splits.items():
        random, zero = returns.loc[split, ["random", "zero"]]
        said = _summary(tasks, _units(suite))
        lines.append(f"| {split} | {len(tasks)} | {said} | {random:.3g} | {zero:.3g} |")
    return "\n".join(lines)


def _summary(tasks: Sequence[Task], units: Mapping[str, str]) -> str:
    """Return in which parameters and changes the tasks of a split lie."""
    said = []
    for key in tasks[0].parameters:
        values = [task.parameters[key] for task in tasks if key in task.parameters]
        said.append(f"{key} {_range(values)} {units.get(key, '')}".strip())
    changes: dict[str, list[float]] = {}
    for task in tasks:
        for part in task.variations().values():
            for key, value in part.items():
                changes.setdefault(key, []).append(value)
    if not changes:
        return "; ".join(said)
    changed = ", ".join(f"{key} ({_range(values)})" for key, values in changes.items())
    return f"{'; '.join(said)}; with another {changed}"


def _range(values: Sequence[ParameterValue]) -> str:
    """Return a few values one by one, or the range of many."""
    if all(isinstance(value, float) for value in values):
        numbers = sorted({value for value in values if isinstance(value, float)})
        if len(numbers) <= _MOST_VALUES:
            return ", ".join(f"{number:g}" for number in numbers)
        return f"{numbers[0]:g} to {numbers[-1]:g}"
    shown = list(dict.fromkeys(map(_plain, values)))
    if len(shown) <= _MOST_VALUES:
        return ", ".join(shown)
    return f"{', '.join(shown[: _MOST_VALUES - 1])} and {len(shown) - _MOST_VALUES + 1} more"


def _plain(value: ParameterValue) -> str:
    if isinstance(value, list):
        return f"({', '.join(f'{number:g}' for number in value)})"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    # A maze that is drawn in letters has several lines.
    return " / ".join(text.split("\n")).strip(" /").replace("|", r"\|")


def _returns(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean returns by split and task, one column a method."""
    return scores.groupby(["split", "task", "method"])["return"].mean().unstack("method")


def _task_table(suite: Suite, scores: pd.DataFrame) -> str:
    returns = _returns(scores)
    units = _units(suite)
    lines = [
        "| split | task | parameters | task vector | random | zero |",
        "|---|---|---|---|---:|---:|",
    ]
    for split in suite.splits:
        for task in suite.tasks(split):
            random, zero = returns.loc[(split, task.name), ["random", "zero"]]
            lines.append(
                f"| {split} | {task.name} | {_summary([task], units)} | "
                f"{_task_vector(suite, task)} | {random:.3g} | {zero:.3g} |"
            )
    return "\n".join(lines)


def _task_vector(suite: Suite, task: Task) -> str:
    if task.family in FAMILIES and isinstance(resolve(task), ManyMazes) and is_told_goal(task):
        return "of each episode"
    vector = suite.family.task_vector(task).tolist()
    return ", ".join(f"{value:.3g}" for value in vector)


def _units(suite: Suite) -> Mapping[str, str]:
    described = [family.description for family in _families(suite)]
    return {key: unit for one in described if one for key, unit in one.units.items()}


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


def _bullets(rows: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in rows.items() if text)


def _numbers(count: int) -> str:
    return f"{count} {plural(count, 'number')}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
