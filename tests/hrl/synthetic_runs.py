"""Write run folders as training and evaluation do, with made-up but plausible numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hrl.run.folder import FORMAT

COLUMNS = [
    "method",
    "seed",
    "split",
    "task",
    "frames",
    "episode",
    "return",
    "success",
    "length",
]
RANDOM_RETURN = 40.0
REFERENCE_RETURN = 800.0


def position_suite() -> dict[str, Any]:
    """Point mass with target positions: a 2-vector parameter, three held-out splits."""
    around = {
        "train": (0.15, 4, 0.25),
        "interpolation": (0.08, 4, 0.0),
        "extrapolation_near": (0.18, 4, 0.1),
        "extrapolation_far": (0.27, 4, 0.35),
    }
    splits = {
        split: [_position_task(split, i, *ring) for i in range(ring[1])]
        for split, ring in around.items()
    }
    return _suite("point_mass", "target", splits)


def speed_suite() -> dict[str, Any]:
    """Walker with target speeds: a scalar parameter; the split `dynamics` changes friction
    instead."""
    speeds = {
        "train": (0.0, 1.0, 2.0, 4.0, 6.0),
        "interpolation": (1.5, 3.0, 5.0),
        "extrapolation_far": (7.0, 8.0),
        "novel": (-1.0,),
    }
    splits = {split: [_speed_task(speed) for speed in values] for split, values in speeds.items()}
    splits["dynamics"] = [_speed_task(2.0, friction=friction) for friction in (0.5, 2.0)]
    return _suite("walker_speed", "speed", splits)


def write_trained(
    folder: Path,
    suite: Mapping[str, Any],
    *,
    method: str = "flat",
    seed: int = 0,
    level: float = 0.8,
    decay: float = 0.6,
    skills: int = 0,
    episodes: int = 4,
    agent: Mapping[str, Any] | None = None,
    frames: int = 120_000,
    videos: Mapping[str, bytes] | None = None,
) -> Path:
    """A trained run: `level` is its score on training tasks, `decay` how much of it distance from
    them costs."""
    rng = np.random.default_rng([seed, len(method), skills])
    folder.mkdir(parents=True)
    luck = rng.normal(0, 0.04)
    scores = {
        (split, task["name"]): level + luck - decay * _distance(suite, task) + rng.normal(0, 0.03)
        for split, task in _tasks(suite)
    }
    interventions = {"none": 1.0, "task_shuffle": 0.45} | (
        {"high_level_action_shuffle": 0.3} if skills else {}
    )
    _write_config(
        folder,
        suite,
        method,
        seed,
        {"name": method, "learning_rate": 3e-4, **(agent or {})},
        frames,
    )
    _write_environment(folder, {"total": 1_200_000 + 90_000 * skills, "encoder": 800_000})
    write_scores(folder, method, seed, frames, scores, episodes, interventions, rng)
    _write_logs(folder, scores, suite, frames, rng)
    if skills:
        _write_usage(folder, suite, skills, rng)
    for name, content in (videos or {}).items():
        (folder / "videos").mkdir(exist_ok=True)
        (folder / "videos" / f"{name}.mp4").write_bytes(content)
    return folder


def write_fixed(
    folder: Path,
    suite: Mapping[str, Any],
    *,
    method: str = "random",
    score: float = 0.0,
    episodes: int = 4,
) -> Path:
    """A policy that learns nothing: only config.yaml and scores.csv."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(method))
    _write_config(folder, suite, method, 0, {"name": method}, 0)
    scores = {(split, task["name"]): score for split, task in _tasks(suite)}
    write_scores(folder, method, 0, 0, scores, episodes, {"none": 1.0}, rng)
    return folder


def write_finetuned(
    folder: Path,
    suite: Mapping[str, Any],
    split: str,
    *,
    method: str = "skills",
    preset: str = "manager",
    seed: int = 0,
    curve: Mapping[int, float],
    score: float,
    forgotten: float = 0.0,
    parameters: int = 1000,
) -> Path:
    """A run that was fine-tuned to a split of a suite.

    curve: normalised score by frames.  score: at the end.  forgotten: score that every training
    task of the suite lost.
    """
    folder.mkdir(parents=True)
    target = {**suite, "splits": {"train": suite["splits"][split]}}
    name = f"{method}-{preset}"
    frames = max(curve)
    _write_config(folder, target, name, seed, {"name": method}, frames)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["method"] = name
    config["finetune"] = {
        "source": str(folder.parent / f"{method}_{seed}"),
        "source_method": method,
        "source_suite": suite["name"],
        "source_reference_return": REFERENCE_RETURN,
        "target": split,
        "preset": preset,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    _write_environment(folder, {"total": parameters})
    learned = {("train", task["name"]): score for task in suite["splits"][split]}
    rng = np.random.default_rng(0)
    write_scores(folder, name, seed, frames, learned, 1, {"none": 1.0}, rng, noise=0.0)
    lines = [
        {"frames": at} | {f"eval/train/return/{task}": _return(value) for _, task in learned}
        for at, value in curve.items()
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        (name, seed, "train", task["name"], at, 0, _return(0.9 - lost), False, 1000)
        for at, lost in ((0, 0.0), (frames, forgotten))
        for task in suite["splits"]["train"]
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "forgetting.csv", index=False)
    return folder


def write_scores(
    folder: Path,
    method: str,
    seed: int,
    frames: int,
    scores: Mapping[tuple[str, str], float],
    episodes: int,
    interventions: Mapping[str, float],
    rng: np.random.Generator,
    noise: float = 0.02,
) -> None:
    """Write scores.csv, and shuffled_scores.csv where there are interventions.

    scores: normalised, per (split, task).  interventions: the share of them that each leaves.
    """
    rows = [
        (
            method,
            seed,
            split,
            task,
            frames,
            episode,
            _return(score * left + rng.normal(0, noise)),
            score * left > 0.5,
            1000,
            name,
        )
        for name, left in interventions.items()
        for (split, task), score in scores.items()
        for episode in range(episodes)
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "intervention"])
    plain = table["intervention"] == "none"
    table.loc[plain, COLUMNS].to_csv(folder / "scores.csv", index=False)
    if not plain.all():
        table[~plain].to_csv(folder / "shuffled_scores.csv", index=False)


def _return(score: float) -> float:
    return RANDOM_RETURN + score * (REFERENCE_RETURN - RANDOM_RETURN)


def _suite(
    name: str, parameter: str, splits: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    return {
        "name": name,
        "action_repeat": 2,
        "reference_return": REFERENCE_RETURN,
        "parameter": parameter,
        "splits": {split: list(tasks) for split, tasks in splits.items()},
    }


def _position_task(
    split: str, index: int, radius: float, count: int, turn: float
) -> dict[str, Any]:
    angle = 2 * np.pi * (index / count + turn / 2)
    target = [round(radius * float(np.cos(angle)), 3), round(radius * float(np.sin(angle)), 3)]
    return _task(f"{split}_{index}", "point_mass", {"target": target})


def _speed_task(speed: float, **others: float) -> dict[str, Any]:
    extra = "".join(f"_{key}_{value:g}" for key, value in others.items())
    return _task(
        f"speed_{speed:g}{extra}", "walker_speed", {"speed": speed, "friction": 1.0, **others}
    )


def _task(name: str, family: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "parameters": dict(parameters),
        "episode_length": 1000,
        "evaluation_seed": 7,
    }


def _tasks(suite: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(split, task) for split, tasks in suite["splits"].items() for task in tasks]


def _distance(suite: Mapping[str, Any], task: Mapping[str, Any]) -> float:
    """Distance from the nearest training task, as a share of the extent of the training tasks."""
    train = np.array(
        [np.atleast_1d(one["parameters"][suite["parameter"]]) for one in suite["splits"]["train"]]
    )
    here = np.atleast_1d(task["parameters"][suite["parameter"]])
    return float(np.linalg.norm(train - here, axis=1).min() / np.ptp(train))


def _write_config(
    folder: Path,
    suite: Mapping[str, Any],
    method: str,
    seed: int,
    agent: Mapping[str, Any],
    frames: int,
) -> None:
    config = {
        "format": FORMAT,
        "agent": dict(agent),
        "suite": dict(suite),
        "folder": str(folder),
        "method": "",
        "seed": seed,
        "frames": frames,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def _write_environment(folder: Path, parameters: Mapping[str, int]) -> None:
    environment = {
        "command": f"python scripts/train.py folder={folder.name}",
        "revision": "0123456789abcdef",
        "dirty": False,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "hardware": {"cpu": "Some CPU", "cores": 2, "memory": 2**34, "gpus": []},
        "parameters": dict(parameters),
        "created": "2026-01-01T00:00:00+00:00",
    }
    (folder / "environment.json").write_text(json.dumps(environment))


def _write_logs(
    folder: Path,
    scores: Mapping[tuple[str, str], float],
    suite: Mapping[str, Any],
    frames: int,
    rng: np.random.Generator,
) -> None:
    metrics, timing = [], []
    for step in range(1, 13):
        progress = 1 - np.exp(-3 * step / 12)
        line: dict[str, float] = {
            "frames": frames * step // 12,
            "steps": frames * step // 24,
            "updates": step,
        }
        for (split, task), score in scores.items():
            value = _return(score * progress + rng.normal(0, 0.03))
            line |= {f"train/return/{task}": value} if split == "train" else {}
            line |= (
                {f"eval/{split}/return/{task}": value}
                if split in ("train", "interpolation")
                else {}
            )
        metrics.append(line)
        timing.append(
            {"frames": line["frames"], "seconds": line["frames"] / 900, "frames_per_second": 900.0}
        )
    for name, lines in (("metrics", metrics), ("timing", timing)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_usage(
    folder: Path, suite: Mapping[str, Any], skills: int, rng: np.random.Generator
) -> None:
    rows = [
        (task["name"], split, skill, weight)
        for split, task in _tasks(suite)
        for skill, weight in enumerate(rng.dirichlet(np.full(skills, 0.5)))
    ]
    pd.DataFrame(rows, columns=["task", "split", "skill", "weight"]).to_csv(
        folder / "skill_usage.csv", index=False
    )
