"""Find in the runs what a reader must know before believing the numbers."""

from collections.abc import Callable

from hrl.reporting.differences import disagreements, parameter_counts, seeds_lacking
from hrl.reporting.finetuned import target_name
from hrl.reporting.runs import Run, left_out_note, same_budget
from hrl.reporting.study import Study, plural
from hrl.reporting.summary import ENOUGH_RUNS, few_runs_note

MATCHED_WITHIN = 1.1  # parameter counts further apart than this are called unequal


def cautions(study: Study) -> list[str]:
    """Return sentences, most important first; none when nothing stands against the comparison."""
    return [sentence for caution in CAUTIONS for sentence in caution(study)]


def _few_runs(study: Study) -> list[str]:
    note = few_runs_note(study.runs, study.compared)
    explanation = (
        f"With fewer than {ENOUGH_RUNS} runs, the truth lies outside a 95 % interval more than "
        "5 % of the time."
    )
    return [f"{note}. {explanation}"] if note else []


def _unequal_frames(study: Study) -> list[str]:
    frames = {
        method: max(run.frames for run in study.runs.of(method))
        for method in study.runs.trained_methods
    }
    if not frames or same_budget(frames.values()):
        return []
    listed = "; ".join(f"{method}: {count:,}" for method, count in frames.items())
    return [
        f"The checkpoints were trained for different numbers of frames ({listed}): budgets are "
        "not equal, and nothing is claimed of methods whose budgets differ."
    ]


def _missing_seeds(study: Study) -> list[str]:
    sentences = [
        f"{method} lacks {plural(len(seeds), 'seed')} {', '.join(map(str, seeds))}"
        for method, seeds in seeds_lacking(study.runs.runs, study.compared).items()
    ]
    for target in dict.fromkeys(run.target for run in study.finetuned):
        runs = [run for run in study.runs.finetuned if target_name(run) == target]
        methods = dict.fromkeys(run.method for run in runs)
        sentences += [
            f"{method} fine-tuned to {target} lacks {plural(len(seeds), 'seed')} "
            f"{', '.join(map(str, seeds))}"
            for method, seeds in seeds_lacking(runs, methods).items()
        ]
    return [f"Not all methods have the same seeds: {'; '.join(sentences)}."] if sentences else []


def _unequal_parameters(study: Study) -> list[str]:
    totals = parameter_counts(study.runs, study.runs.trained_methods).get("total", {})
    if not totals or max(totals.values()) <= MATCHED_WITHIN * max(1, min(totals.values())):
        return []
    listed = ", ".join(f"{method} {count:,}" for method, count in totals.items())
    return [f"The methods have different numbers of trainable parameters ({listed})."]


def _mixed_methods(study: Study) -> list[str]:
    found = disagreements(study.runs)
    if not found:
        return []
    keys = ", ".join(dict.fromkeys(f"{one.key} ({one.method})" for one in found))
    return [
        f"Runs of one method were configured differently: {keys}. See “What differs between these "
        "methods”."
    ]


def _mixed_revisions(study: Study) -> list[str]:
    trained = [run for run in study.runs.everything if run.trained]
    by_revision: dict[str, list[Run]] = {}
    for run in trained:
        by_revision.setdefault(run.revision, []).append(run)
    sentences = []
    if len(by_revision) > 1:
        listed = "; ".join(f"{name}: {_named(runs)}" for name, runs in by_revision.items())
        sentences.append(f"The runs come from {len(by_revision)} code revisions ({listed}).")
    dirty = [run for run in trained if run.environment.get("dirty")]
    if dirty:
        sentences.append(
            f"{len(dirty)} of {len(trained)} trained runs come from code with uncommitted changes."
        )
    return sentences


def _named(runs: list[Run]) -> str:
    """Return the methods of some runs, each with its seeds."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.method, []).append(str(run.seed))
    return ", ".join(f"{method} {' '.join(sorted(set(own)))}" for method, own in seeds.items())


def _earlier_rows(study: Study) -> list[str]:
    read = sum(len(run.scores) + len(run.shuffled) for run in study.runs.runs)
    left = read - len(study.runs.scores) - len(study.runs.shuffled)
    if not left:
        return []
    verb = "is" if left == 1 else "are"
    return [
        f"{left:,} {plural(left, 'episode')} of earlier checkpoints {verb} left out: only the last "
        "checkpoint counts."
    ]


def _older_scores(study: Study) -> list[str]:
    older = [
        f"{run.path} after {run.frames:,} of {run.trained_frames:,} frames"
        for run in study.runs.everything
        if run.trained_frames and not same_budget([run.frames, run.trained_frames])
    ]
    if not older:
        return []
    return [
        f"Runs were trained on since the checkpoint that was scored: {'; '.join(older)}. Continue "
        "those that are not finished, and evaluate them again."
    ]


def _left_out(study: Study) -> list[str]:
    note = left_out_note(study.runs)
    return [note] if note else []


CAUTIONS: tuple[Callable[[Study], list[str]], ...] = (
    _left_out,
    _older_scores,
    _few_runs,
    _missing_seeds,
    _unequal_frames,
    _mixed_methods,
    _unequal_parameters,
    _mixed_revisions,
    _earlier_rows,
)
