"""Measure what each fine-tuning run learned of its target, how fast, and what it forgot."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hrl.reporting import statistics
from hrl.reporting.random_play import RandomPlay
from hrl.reporting.runs import Run, Runs
from hrl.reporting.statistics import Array, Interval, Statistic
from hrl.reporting.suite_record import RunFolderError, first_difference
from hrl.reporting.summary import generator
from hrl.reporting.tables import read_scores
from hrl.run.folder import RunFolder

REACHED = 0.8
"""Normalised score, as a share of the reference return's, that counts as having learned a task."""
PRESETS = (
    "all",
    "heads",
    "manager",
    "manager_value",
    "low_level",
    "low_level_value",
    "policy",
    "scratch",
)
"""The order of presets in tables; others follow in alphabetical order."""


@dataclass(frozen=True)
class FinetunedRun:
    """Hold the measurements of one fine-tuning run; scores are normalised.

    target: suite and task or split.  source_method: method of the run it started from.  preset: of
    the parts.  scores: [task] at the end.  frames, curve: of evaluations in training, [point], mean
    over tasks; empty where there were none.  trained_parameters: None where they are not recorded.
    forgetting: mean loss of score on the source's training tasks; None where it was not measured.
    """

    path: str
    target: str
    source_method: str
    preset: str
    seed: int
    budget: int
    scores: Array
    frames: Array
    curve: Array
    trained_parameters: int | None
    forgetting: float | None

    @property
    def score(self) -> float:
        """Return the mean score over the target's tasks at the end."""
        return float(self.scores.mean())

    @property
    def area(self) -> float | None:
        """Return the area under the learning curve over its frames: a mean score over training."""
        if len(self.frames) < 2:
            return None
        width = self.frames[-1] - self.frames[0]
        return float(np.trapezoid(self.curve, self.frames) / width)

    @property
    def frames_to_reach(self) -> int | None:
        """Return the frames at the first evaluation that scored REACHED; None for never."""
        reached = np.flatnonzero(self.curve >= REACHED)
        return int(self.frames[reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class Cell:
    """Hold the runs, by seed, of one target, method and preset."""

    target: str
    source_method: str
    preset: str
    runs: tuple[FinetunedRun, ...]

    @property
    def name(self) -> str:
        """Return method and preset."""
        return f"{self.source_method} {self.preset}"

    @property
    def budget(self) -> int:
        """Return the frames of its runs."""
        return self.runs[0].budget

    @property
    def scores(self) -> Array:
        """Return the scores at the end, [run, task]."""
        return np.stack([run.scores for run in self.runs])

    def interval(self, scores: Array, statistic: Statistic) -> Interval:
        """Return the 95 % interval of a statistic of scores [..., run, task]."""
        labels = generator(self.target, self.source_method, self.preset)
        return statistics.interval(scores, statistic, labels, resamples=2000)

    def values(self, measure: Callable[[FinetunedRun], float | None]) -> Array | None:
        """Return a measurement of every run, [run, 1]; None where a run lacks it."""
        found = [measure(run) for run in self.runs]
        known = [value for value in found if value is not None]
        return np.array(known)[:, None] if len(known) == len(found) else None

    def curves(self) -> tuple[Array, Array] | None:
        """Return the frames that all runs share, [point], and scores there, [point, run, 1]."""
        if any(len(run.frames) < 2 for run in self.runs):
            return None
        last = min(run.frames[-1] for run in self.runs)
        frames = self.runs[0].frames[self.runs[0].frames <= last]
        curves = [np.interp(frames, run.frames, run.curve) for run in self.runs]
        return frames, np.stack(curves, -1)[..., None]


def measure_finetuned(runs: Runs) -> tuple[FinetunedRun, ...]:
    """Return the measurements of all fine-tuning runs, ordered by target, method, preset, seed.

    Raises:
        RunFolderError: random play was never measured on a target, so that no score is defined;
            or targets of one name have other tasks.
    """
    _check_same_targets(runs.finetuned)
    found = [_measure(run, runs.random_play) for run in runs.finetuned]
    return tuple(sorted(found, key=_order))


def cells(runs: Iterable[FinetunedRun]) -> list[Cell]:
    """Return the runs grouped by target, method and preset, in their order."""
    groups: dict[tuple[str, str, str], list[FinetunedRun]] = {}
    for run in runs:
        groups.setdefault((run.target, run.source_method, run.preset), []).append(run)
    return [Cell(*key, tuple(members)) for key, members in groups.items()]


def finetuning_csv(runs: Sequence[FinetunedRun]) -> dict[str, pd.DataFrame]:
    """Return the tables of numbers by the names of their files."""
    return {"finetuning": finetuned_table(runs), "finetuning_curves": curves_table(runs)}


def finetuned_table(runs: Sequence[FinetunedRun]) -> pd.DataFrame:
    """Return one row a run with its measurements; missing where there is none."""
    rows = [
        {
            "target": run.target,
            "source_method": run.source_method,
            "parts": run.preset,
            "seed": run.seed,
            "frames": run.budget,
            "score": run.score,
            "area_under_curve": run.area,
            "frames_to_80_percent": run.frames_to_reach,
            "trained_parameters": run.trained_parameters,
            "forgetting": run.forgetting,
            "folder": run.path,
        }
        for run in runs
    ]
    whole = {"frames_to_80_percent": "Int64", "trained_parameters": "Int64"}
    return pd.DataFrame(rows).astype(whole)


def curves_table(runs: Sequence[FinetunedRun]) -> pd.DataFrame:
    """Return one row an evaluation in training: frames and mean score over the target's tasks."""
    columns = ["target", "source_method", "parts", "seed", "frames", "score"]
    rows = [
        (run.target, run.source_method, run.preset, run.seed, int(frames), score)
        for run in runs
        for frames, score in zip(run.frames, run.curve, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def preset_order(preset: str) -> tuple[int, str]:
    """Return what presets are sorted by."""
    return (PRESETS.index(preset) if preset in PRESETS else len(PRESETS), preset)


def target_name(run: Run) -> str:
    """Return suite and task or split that a run was fine-tuned to."""
    return f"{run.suite.name}: {run.finetune['target']}"


# Private functions.


def _order(run: FinetunedRun) -> tuple[str, str, tuple[int, str], int]:
    return run.target, run.source_method, preset_order(run.preset), run.seed


def _check_same_targets(runs: Iterable[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(target_name(run), run)
        place = first_difference(other.config["suite"], run.config["suite"])
        if place:
            raise RunFolderError(
                f"target {target_name(run)!r} is not the same in {other.path} and {run.path}: "
                f"{place}"
            )


def _measure(run: Run, random_play: RandomPlay) -> FinetunedRun:
    record = run.finetune
    tasks = run.suite.task_names("train")
    last = run.scores[(run.scores["frames"] == run.frames) & (run.scores["split"] == "train")]
    if last.empty:
        raise RunFolderError(f"{RunFolder(run.path).scores}: nothing for split 'train'")
    random = random_play.by_place(run.suite, last)
    floors = np.array([random["train", task] for task in tasks])
    returns = last.groupby("task")["return"].mean()[tasks].to_numpy(np.float64)
    frames, curve = _curve(run, tasks, floors)
    parameters = run.environment.get("parameters", {}).get("total")
    return FinetunedRun(
        path=str(run.path),
        target=target_name(run),
        source_method=str(record["source_method"]),
        preset=_preset(run),
        seed=run.seed,
        budget=run.frames,
        scores=statistics.normalised_score(returns, floors, run.suite.reference_return),
        frames=frames,
        curve=curve,
        trained_parameters=parameters,
        forgetting=_forgetting(run, random_play),
    )


def _preset(run: Run) -> str:
    """Return the preset, with what a run's own name adds to it: other settings are another row."""
    source, preset = str(run.finetune["source_method"]), str(run.finetune["preset"])
    if run.method == f"{source}-{preset}":
        return preset
    if run.method.startswith(f"{source}-{preset}"):
        return run.method.removeprefix(f"{source}-")
    return f"{preset} ({run.method})"


def _curve(run: Run, tasks: list[str], floors: Array) -> tuple[Array, Array]:
    """Return frames and mean scores of the evaluations in training, without those never made.

    A run that was trained on since it was evaluated counts as far as it was evaluated.
    """
    keys = [f"eval/train/return/{task}" for task in tasks]
    if not set(keys) <= set(run.metrics.columns):
        return np.empty(0), np.empty(0)
    logged = run.metrics[["frames", *keys]].dropna().to_numpy(np.float64)
    logged = logged[logged[:, 0] <= run.frames]
    scores = statistics.normalised_score(logged[:, 1:], floors, run.suite.reference_return)
    return logged[:, 0], scores.mean(1)


def _forgetting(run: Run, random_play: RandomPlay) -> float | None:
    """Return the mean loss of score on the source's training tasks; None where it is unknown.

    It is unknown of a run that was trained on since it was evaluated.
    """
    path = RunFolder(run.path).forgetting
    if not path.exists():
        return None
    means = read_scores(path).groupby(["task", "frames"])["return"].mean().unstack()
    try:
        random = random_play.by_task(str(run.finetune["source_suite"]))
    except RunFolderError:
        return None
    if not {0, run.frames} <= set(means) or not set(means.index) <= set(random):
        return None
    floors = np.array([random[str(task)] for task in means.index])
    reference = float(run.finetune["source_reference_return"])
    lost = (means[0] - means[run.frames]).to_numpy(np.float64)
    return float((lost / (reference - floors)).mean())
