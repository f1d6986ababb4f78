"""Word what the study shows of every pair of methods, with the controls beside each claim."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from hrl.reporting.comparisons import Comparison, Verdict, wider_interval
from hrl.reporting.differences import seeds_lacking
from hrl.reporting.page import (
    Bullets,
    Cell,
    Folded,
    Heading,
    Paragraph,
    Part,
    Section,
    Table,
    interval,
    number,
    quantity,
    text,
)
from hrl.reporting.study import Study, listing, plural, words
from hrl.reporting.summary import ENOUGH_RUNS, Aggregate

EXPLANATION = (
    "A method is said to score higher than another only where both 95 % intervals of the "
    "difference of their IQMs lie above 0: the one that draws runs within tasks, and the one that "
    "draws whole runs. Indistinguishable means that these runs do not tell the two apart, not that "
    "they are equal. In the tables: the difference, and the interval that holds both of these."
)
NUMBERS = (
    "split",
    "first",
    "second",
    "runs",
    "claim",
    "difference of IQM",
    "its 95 % CI",
    "its CI, whole runs",
    "P(first scores higher)",
    "95 % CI of P",
    "CI of P, whole runs",
    "difference of success",
    "95 % CI of success",
    "CI of success, whole runs",
)


def claims_section(study: Study) -> Section:
    """Return the claims about every pair of methods; empty where nothing was compared."""
    pairs = claimed_pairs(study)
    if not pairs:
        return Section("claims", "What the intervals allow to say")
    parts: list[Part] = [Paragraph(EXPLANATION), Paragraph(_how_many(study), "quiet")]
    for first, second in pairs:
        parts.append(Heading(f"{first} and {second}"))
        parts.append(Bullets(claims(study, first, second)))
        parts.append(_claim_table(study, first, second))
    numbers = Folded("All comparisons in numbers", [_numbers_table(study)])
    return Section("claims", "What the intervals allow to say", [*parts, numbers])


def claimed_pairs(study: Study) -> list[tuple[str, str]]:
    """Return the pairs of methods, controls left out, that were compared on some split."""
    methods = [method for method in study.runs.methods if method not in study.runs.controls]
    compared = {(first, second) for _, first, second in study.comparisons}
    return [pair for pair in combinations(methods, 2) if pair in compared]


def claims(study: Study, first: str, second: str) -> list[str]:
    """Return sentences on a pair of methods: claims, what controls take from them, caveats."""
    found = _comparisons(study, first, second)
    groups: dict[Verdict, list[str]] = {}
    for one in found:
        groups.setdefault(one.verdict, []).append(words(one.split))
    seeds = seeds_text(found[0].runs)
    sentences = [
        _sentence(verdict, found[0], listing(splits), seeds) for verdict, splits in groups.items()
    ]
    return [*sentences, *_control_sentences(study, found), *_caveats(study, first, second)]


def claim_words(verdict: Verdict, difference: Aggregate) -> str:
    """Return a claim in a few words, with the difference and the interval it rests on."""
    found = wider_interval(difference)
    if verdict == "unequal budgets" or found is None:
        return verdict
    return f"{verdict} {difference['value']:+.2f} [{found[0]:z.2f}, {found[1]:z.2f}]"


def seeds_text(runs: Sequence[int]) -> str:
    """Return how many seeds stand behind a comparison, such as "5 seeds" or "5 and 3 seeds"."""
    counts = list(dict.fromkeys(runs))
    shown = f"{' and '.join(map(str, counts))} {plural(max(counts), 'seed')}"
    return f"{shown} (too few: intervals under-cover)" if min(counts) < ENOUGH_RUNS else shown


# Private functions.


def _how_many(study: Study) -> str:
    count = len(study.comparisons) // 2
    return (
        f"{count} {plural(count, 'comparison')} of two methods on a split {_verb(count)} made on "
        "this page, and nothing is corrected for their number: of 20 comparisons of methods that "
        "are equal, about one would be called a difference."
    )


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _comparisons(study: Study, first: str, second: str) -> list[Comparison]:
    places = ((split, first, second) for split in study.runs.splits)
    return [study.comparisons[place] for place in places if place in study.comparisons]


def _sentence(verdict: Verdict, one: Comparison, splits: str, seeds: str) -> str:
    first, second = one.first, one.second
    if verdict == "unequal budgets":
        frames = " and ".join(f"{count:,}" for count in one.frames)
        return (
            f"{first} and {second} are not compared: they were trained for {frames} frames, and "
            "budgets that differ are no comparison."
        )
    if verdict == "one run":
        return f"Nothing is claimed on {splits}: one run of a method has no interval."
    if verdict == "indistinguishable":
        return f"{first} and {second} are indistinguishable on {splits} at {seeds}."
    better, other = (first, second) if verdict == "higher" else (second, first)
    return f"{better} scores higher than {other} on {splits} at {seeds}."


def _control_sentences(study: Study, found: Sequence[Comparison]) -> list[str]:
    """Return what the controls say of the splits on which one method scores higher."""
    won: dict[str, list[str]] = {}
    for one in found:
        if one.verdict in ("higher", "lower"):
            better = one.first if one.verdict == "higher" else one.second
            won.setdefault(better, []).append(one.split)
    if won and not study.runs.controls:
        return ["No control stands beside this claim: it does not say where a difference is from."]
    return [
        sentence
        for better, splits in won.items()
        for sentence in _controls_against(study, better, splits)
    ]


def _controls_against(study: Study, better: str, splits: Sequence[str]) -> list[str]:
    """Return what every control says of a method that scores higher than another on splits."""
    sentences = []
    beaten = []
    for control, note in study.runs.controls.items():
        verdicts = {
            split: study.comparisons[split, better, control].verdict
            for split in splits
            if (split, better, control) in study.comparisons
        }
        held = [split for split, verdict in verdicts.items() if verdict == "higher"]
        matched = [split for split in verdicts if verdicts[split] in ("indistinguishable", "lower")]
        name = f"{control} ({note})" if note else control
        if matched:
            where = listing([words(split) for split in matched])
            sentences.append(
                f"On {where}, {better} does not score higher than the control {name}: whatever the "
                "two have in common may be the reason."
            )
        elif held:
            beaten.append(f"{name} on {listing([words(split) for split in held])}")
        else:
            sentences.append(f"The control {name} says nothing here: {_why_silent(verdicts)}.")
    if beaten:
        sentences.append(f"{better} also scores higher than {'; '.join(beaten)}.")
    return sentences


def _why_silent(verdicts: dict[str, Verdict]) -> str:
    if "unequal budgets" in verdicts.values():
        return "it was trained for another number of frames"
    return "a single run has no interval" if verdicts else "it was not evaluated there"


def _caveats(study: Study, first: str, second: str) -> list[str]:
    lacking = seeds_lacking(study.runs.runs, (first, second))
    sentences = [f"{method} has no {_seeds(seeds)}." for method, seeds in lacking.items()]
    runs = [run for method in (first, second) for run in study.runs.of(method) if run.trained]
    revisions = {run.revision for run in runs}
    if len(revisions) > 1:
        sentences.append(f"Their runs come from {len(revisions)} code revisions; see “Runs”.")
    return sentences


def _seeds(seeds: Iterable[int]) -> str:
    shown = list(map(str, seeds))
    return f"{plural(len(shown), 'seed')} {', '.join(shown)}"


def _claim_table(study: Study, first: str, second: str) -> Table:
    """Return the claims on every split: the pair first, then both methods against the controls."""
    splits = study.runs.splits
    rivals = [(first, second)]
    rivals += [(one, control) for control in study.runs.controls for one in (first, second)]
    header = [text("method"), text("against"), *(text(words(split)) for split in splits)]
    header.append(text("what the control is there for"))
    rows = []
    for one, other in rivals:
        claimed = [_claim_cell(study, split, one, other) for split in splits]
        note = study.runs.controls.get(other, "")
        names = [Cell(name, "text", study.styles[name].colour) for name in (one, other)]
        rows.append([*names, *claimed, text(note, "text long")])
    if not study.runs.controls:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(f"claims_{first}_{second}", header, rows, breaks=(1,))


def _claim_cell(study: Study, split: str, first: str, second: str) -> Cell:
    comparison = study.comparisons.get((split, first, second))
    if comparison is None:
        return text("-")
    return text(claim_words(comparison.verdict, comparison.difference))


def _numbers_table(study: Study) -> Table:
    header = [text(label) for label in NUMBERS[:3]]
    header += [number(NUMBERS[3]), text(NUMBERS[4]), *map(number, NUMBERS[5:])]
    shown = [
        one
        for (split, first, second), one in study.comparisons.items()
        if study.runs.methods.index(first) < study.runs.methods.index(second)
    ]
    rows = [
        [
            text(words(one.split)),
            text(one.first),
            text(one.second),
            number(f"{one.runs[0]}, {one.runs[1]}"),
            text(one.verdict),
            *_aggregate_cells(one.difference),
            *_aggregate_cells(one.improvement),
            *_aggregate_cells(one.success),
        ]
        for one in shown
    ]
    return Table("comparisons", header, rows)


def _aggregate_cells(aggregate: Aggregate) -> list[Cell]:
    return [
        quantity(aggregate["value"]),
        interval(aggregate["ci95"]),
        interval(aggregate["ci95_runs"]),
    ]
