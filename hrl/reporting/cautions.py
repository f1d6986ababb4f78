"""Find in the runs what a reader must know before believing the numbers."""

from collections.abc import Callable

from hrl.reporting.differences import disagreements, parameter_counts
from hrl.reporting.runs import left_out_note
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
        method: sorted({run.frames for run in study.runs.of(method)})
        for method in study.runs.trained_methods
    }
    if len({frame for values in frames.values() for frame in values}) < 2:
        return []
    listed = "; ".join(
        f"{method}: {', '.join(f'{value:,}' for value in values)}"
        for method, values in frames.items()
    )
    return [
        f"The checkpoints were trained for different numbers of frames ({listed}): budgets are "
        "not equal."
    ]


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
    trained = [run for run in study.runs.runs if run.trained]
    revisions = {str(run.environment.get("revision", "unknown")) for run in trained}
    sentences = []
    if len(revisions) > 1:
        sentences.append(f"The runs come from {len(revisions)} code revisions; see “Runs”.")
    dirty = [run for run in trained if run.environment.get("dirty")]
    if dirty:
        sentences.append(
            f"{len(dirty)} of {len(trained)} trained runs come from code with uncommitted changes."
        )
    return sentences


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


def _left_out(study: Study) -> list[str]:
    note = left_out_note(study.runs)
    return [note] if note else []


CAUTIONS: tuple[Callable[[Study], list[str]], ...] = (
    _left_out,
    _few_runs,
    _unequal_frames,
    _mixed_methods,
    _unequal_parameters,
    _mixed_revisions,
    _earlier_rows,
)
