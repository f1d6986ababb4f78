"""Show whether the hierarchy is used: returns under shuffles, and which skills serve which task."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hrl.reporting import statistics
from hrl.reporting.exports import file_stem
from hrl.reporting.figures.style import INK, WIDTH, ReportFigure, panels
from hrl.reporting.runs import Run
from hrl.reporting.statistics import Array
from hrl.reporting.study import Study, note_on, words
from hrl.reporting.summary import generator
from hrl.reporting.tables import SHUFFLES

INTERVENTIONS = ("none", *SHUFFLES)
SHADES = {"none": 1.0, "high_level_action_shuffle": 0.6, "task_shuffle": 0.3}
MOST_HEATMAPS = 3


def diagnostic_figures(study: Study) -> list[ReportFigure]:
    """Draw the shuffle tests, if any run has them, and skill usage of each method with skills."""
    usage = [_skill_figure(study, method) for method in study.runs.methods]
    return [figure for figure in (_shuffles(study), *usage) if figure is not None]


def skill_entropy(weights: Array) -> Array:
    """Return the entropy of skill usage, `[skill, task] -> [task]`.

    It is a share, 0 to 1, of the greatest possible one (uniform use).
    """
    shares = weights / np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)
    entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=0)
    return np.asarray(entropy / np.log(max(len(weights), 2)))


def shuffle_returns(study: Study, split: str) -> dict[str, dict[str, Array]]:
    """Return method -> intervention -> `[run]`, the mean return over the split's tasks.

    Only methods with shuffled episodes have an entry.
    """
    rows = _episodes(study, [split])
    lone_task = rows["task"].nunique() == 1  # its vector can only be swapped with itself
    disturbed = set(rows.loc[rows["intervention"] != "none", "method"])
    returns: dict[str, dict[str, Array]] = {}
    for method in (method for method in study.compared if method in disturbed):
        of_method = rows[rows["method"] == method]
        returns[method] = {
            intervention: _run_returns(of_method[of_method["intervention"] == intervention])
            for intervention in INTERVENTIONS
            if intervention in set(of_method["intervention"])
            and not (intervention == "task_shuffle" and lone_task)
        }
    return returns


def _episodes(study: Study, splits: Iterable[str]) -> pd.DataFrame:
    """Return the episodes of some splits, undisturbed ones with the intervention "none"."""
    plain = study.runs.scores.assign(intervention="none")
    rows = pd.concat([plain, study.runs.shuffled], ignore_index=True)
    return rows[rows["split"].isin(list(splits))]


def _run_returns(rows: pd.DataFrame) -> Array:
    per_task = rows.groupby(["run", "task"])["return"].mean()
    return per_task.groupby("run").mean().to_numpy(dtype=np.float64)


def _shuffles(study: Study) -> ReportFigure | None:
    returns = {split: shuffle_returns(study, split) for split in study.runs.splits}
    returns = {split: by_method for split, by_method in returns.items() if by_method}
    if not returns:
        return None
    figure, axes = panels(
        len(returns), 3, 2.9, width=WIDTH if len(returns) > 1 else 6.4, sharey=True
    )
    for axis, (split, by_method) in zip(axes, returns.items(), strict=True):
        for i, (method, by_intervention) in enumerate(by_method.items()):
            _shuffle_bars(axis, study, i, method, by_intervention)
        axis.set_xticks(range(len(by_method)), list(by_method))
        axis.set_title(words(split))
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("return")
    methods = list(dict.fromkeys(method for by_method in returns.values() for method in by_method))
    _intervention_legend(figure)
    caption = (
        "One panel per split with such episodes. x: method and intervention. y: return, mean over "
        "tasks and runs. Shuffled high-level actions are swapped between "
        "environments; if the return stays, the low level ignores them. Task shuffle: the task "
        "vectors are swapped; if the return stays, the agent ignores the task. Bars: mean; lines: "
        "95 % bootstrap interval over runs; dots: single runs. " + _counts(study, methods, returns)
    )
    return ReportFigure(
        "shuffle_diagnostics",
        "Shuffled high-level actions and tasks",
        caption,
        figure,
        note_on(study, methods),
    )


def _shuffle_bars(
    axes: Axes, study: Study, x: int, method: str, by_intervention: dict[str, Array]
) -> None:
    style = study.styles[method]
    for i, (intervention, returns) in enumerate(by_intervention.items()):
        place = x + (i - (len(by_intervention) - 1) / 2) * 0.26
        interval = statistics.interval(
            returns[:, None], statistics.mean_score, generator(method, intervention), resamples=2000
        )
        axes.bar(place, returns.mean(), 0.24, color=style.colour, alpha=SHADES[intervention], lw=0)
        axes.vlines(place, float(interval.low), float(interval.high), color=INK, lw=1.2)
        axes.plot(
            np.full(len(returns), place),
            returns,
            ls="",
            marker="o",
            ms=3,
            mfc="white",
            mec=INK,
            mew=0.7,
        )


def _intervention_legend(figure: Figure) -> None:
    handles = [
        Patch(color=INK, alpha=alpha, lw=0, label=words(name)) for name, alpha in SHADES.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)


def _counts(study: Study, methods: list[str], splits: Iterable[str]) -> str:
    rows = _episodes(study, splits)
    episodes = rows[rows["method"].isin(methods)].groupby("intervention").size()
    counted = ", ".join(
        f"{words(name)} {episodes[name]:,}" for name in INTERVENTIONS if name in episodes
    )
    runs = ", ".join(f"{method} {len(study.runs.of(method))}" for method in methods)
    return f"Runs per method: {runs}; episodes: {counted}."


def _skill_figure(study: Study, method: str) -> ReportFigure | None:
    runs = [run for run in study.runs.of(method) if not run.skill_usage.empty]
    if not runs:
        return None
    shown = runs[:MOST_HEATMAPS]
    weights = [usage_matrix(run) for run in shown]
    skills = max(len(one) for one, _ in weights)
    figure = Figure(figsize=(WIDTH, len(shown) * (0.7 + 0.17 * skills) + 0.9))
    grid = figure.subplots(
        2 * len(shown), 1, squeeze=False, height_ratios=[1, max(2, 0.5 * skills)] * len(shown)
    )
    top = max(float(one.max()) for one, _ in weights)
    for i, (run, (one, places)) in enumerate(zip(shown, weights, strict=True)):
        _entropy_bars(grid[2 * i, 0], study.styles[method].colour, one, places)
        image = grid[2 * i + 1, 0].imshow(one, aspect="auto", cmap="Blues", vmin=0, vmax=top)
        _heatmap_axes(grid[2 * i + 1, 0], run.seed, one, places, last=i == len(shown) - 1)
    figure.colorbar(image, ax=grid[:, 0].tolist(), label="mean weight", shrink=0.6, aspect=30)
    caption = (
        f"Method {method}, one block per run, {len(shown)} of {len(runs)} runs: skills have no "
        "common numbering between runs, so runs are not averaged. x: task, split by split. "
        "Heatmap: y is the skill, colour its mean weight over the greedy evaluation episodes of "
        "the task. Bars above: entropy of that usage as a share of the greatest possible; 0 is "
        "one skill alone, 1 all skills alike."
    )
    return ReportFigure(
        f"skill_usage_{file_stem(method)}",
        f"Skill usage: {method}",
        caption,
        figure,
    )


def usage_matrix(run: Run) -> tuple[Array, list[tuple[str, str]]]:
    """Return a run's mean weights `[skill, task]`, and the (split, task) of each column.

    Columns are in the suite's order.
    """
    table = run.skill_usage.pivot_table(
        index="skill", columns=["split", "task"], values="weight", fill_value=0.0
    )
    known = [(split, task.name) for split, tasks in run.suite.splits.items() for task in tasks]
    places = [place for place in known if place in table.columns]
    return table[places].to_numpy(dtype=np.float64), places


def _entropy_bars(axes: Axes, colour: str, weights: Array, places: list[tuple[str, str]]) -> None:
    axes.bar(range(len(places)), skill_entropy(weights), 0.8, color=colour, alpha=0.7, lw=0)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 1])
    axes.set_ylabel("entropy", fontsize=7.5)
    axes.set_xticks([])
    for split in dict.fromkeys(split for split, _ in places):
        first = next(i for i, place in enumerate(places) if place[0] == split)
        # Slanted, so that names of splits with one or two tasks do not overlap.
        axes.text(
            first - 0.4, 1.12, words(split), ha="left", va="bottom", fontsize=7.5, rotation=25
        )


def _heatmap_axes(
    axes: Axes, seed: int, weights: Array, places: list[tuple[str, str]], *, last: bool
) -> None:
    axes.grid(visible=False)
    axes.set_yticks(range(len(weights)))
    axes.set_ylabel(f"seed {seed}\nskill")
    for i in range(1, len(places)):
        if places[i][0] != places[i - 1][0]:
            axes.axvline(i - 0.5, color=INK, lw=0.8)
    axes.set_xticks(
        range(len(places)), [task for _, task in places], rotation=40, ha="right", fontsize=7
    )
    axes.tick_params(labelbottom=last, bottom=last)
