"""Say which fine-tuning runs learn more than others, as far as intervals allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from hrl.reporting import statistics
from hrl.reporting.claims import claim_words, seeds_text
from hrl.reporting.comparisons import Verdict, difference, verdict
from hrl.reporting.finetuned import Cell
from hrl.reporting.page import Bullets, Paragraph, Part, Table, text
from hrl.reporting.runs import same_budget
from hrl.reporting.statistics import Array
from hrl.reporting.study import listing
from hrl.reporting.summary import Aggregate

SCRATCH = "scratch"
EXPLANATION = (
    "What the intervals allow to say of the area under the learning curve, the mean score while "
    "the new task is learned. Rows against columns; higher or lower only where the 95 % bootstrap "
    "interval of the difference over runs lies on one side of 0."
)


@dataclass(frozen=True)
class CellComparison:
    """Hold how the runs of one cell do against those of another on the same target.

    area: difference of the area under the learning curve, mean over runs; None where curves are
    missing.  score: difference of the IQM at the end.
    """

    first: Cell
    second: Cell
    area: Aggregate | None
    score: Aggregate

    @property
    def verdict(self) -> Verdict | None:
        """Return what may be said of the area; None where curves are missing."""
        if not same_budget([self.first.budget, self.second.budget]):
            return "unequal budgets"
        return verdict(self.area) if self.area else None


def compare_cells(first: Cell, second: Cell) -> CellComparison:
    """Return the comparison of two cells of one target."""
    labels = (first.target, first.name, second.name)
    x, y = (cell.values(lambda run: run.area) for cell in (first, second))
    return CellComparison(
        first,
        second,
        _area_difference(x, y, *labels),
        difference(first.scores, second.scores, statistics.interquartile_mean, *labels),
    )


def finetuning_claims(target: str, found: Sequence[Cell]) -> list[Part]:
    """Return sentences on learning from scratch, and tables of every pair of methods.

    Args:
        target: of all cells.
        found: its cells.
    """
    methods = list(dict.fromkeys(cell.source_method for cell in found))
    by_method = {
        method: [cell for cell in found if cell.source_method == method] for method in methods
    }
    sentences = [
        line for cells_of_method in by_method.values() for line in _on_scratch(cells_of_method)
    ]
    tables = [
        _matrix(target, by_method[one], by_method[other])
        for i, one in enumerate(methods)
        for other in methods[i + 1 :]
    ]
    parts: list[Part] = [Bullets(sentences)] if sentences else []
    if tables:
        parts.append(Paragraph(EXPLANATION))
    return [*parts, *tables]


# Private functions.


def _area_difference(x: Array | None, y: Array | None, *labels: str) -> Aggregate | None:
    if x is None or y is None:
        return None
    return difference(x, y, statistics.mean_score, *labels)


def _on_scratch(found: Sequence[Cell]) -> list[str]:
    """Return sentences on the presets of a method against learning from scratch."""
    scratch = next((cell for cell in found if cell.preset == SCRATCH), None)
    if scratch is None:
        return []
    groups: dict[tuple[Verdict, str], list[str]] = {}
    for cell in found:
        claimed = None if cell is scratch else compare_cells(cell, scratch).verdict
        if claimed is not None:
            seeds = seeds_text([len(cell.runs), len(scratch.runs)])
            groups.setdefault((claimed, seeds), []).append(cell.preset)
    return [
        _sentence(scratch.source_method, claimed, listing(presets), seeds)
        for (claimed, seeds), presets in groups.items()
    ]


def _sentence(method: str, claimed: Verdict, presets: str, seeds: str) -> str:
    if claimed == "one run":
        return f"Nothing is claimed of {method} with {presets}: one run has no interval."
    if claimed == "unequal budgets":
        return f"{method} with {presets} had another budget than from scratch: not compared."
    if claimed == "indistinguishable":
        return (
            f"{method} with {presets} is indistinguishable from learning from scratch at {seeds}."
        )
    return f"{method} with {presets} scores {claimed} than learning from scratch at {seeds}."


def _matrix(target: str, first: Sequence[Cell], second: Sequence[Cell]) -> Table:
    """Return the claims on every pair of presets of two methods."""
    one = first[0].source_method
    other = second[0].source_method
    header = [text(f"{one} against {other}"), *(text(cell.preset) for cell in second)]
    rows = [
        [text(cell.preset, "text head"), *(text(_claim(cell, rival)) for rival in second)]
        for cell in first
    ]
    return Table(f"finetuning_claims_{target}_{one}_{other}", header, rows)


def _claim(first: Cell, second: Cell) -> str:
    compared = compare_cells(first, second)
    if compared.verdict is None or compared.area is None:
        return "-"
    return claim_words(compared.verdict, compared.area)
