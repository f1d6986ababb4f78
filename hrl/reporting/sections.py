"""The report's text and tables, section by section, in the order in which a reader asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

from hrl.reporting.cautions import cautions
from hrl.reporting.figures.comparison import comparison_figures
from hrl.reporting.figures.diagnostics import diagnostic_figures
from hrl.reporting.figures.generalization import generalization_figures, undrawn_note
from hrl.reporting.figures.goals import goal_figures
from hrl.reporting.figures.style import WIDTH, ReportFigure
from hrl.reporting.figures.training import missing_curves_note, training_figures
from hrl.reporting.page import (
    Cell,
    Section,
    bullets,
    definitions,
    film,
    folded,
    image,
    number,
    paragraph,
    swatch,
    table,
    text,
)
from hrl.reporting.records import difference_section, method_cell, runs_section
from hrl.reporting.study import Study, note_on, words
from hrl.reporting.summary import SplitSummary, by_split, interval_text
from hrl.reporting.videos import Video, fitting, latest_videos


@dataclass(frozen=True)
class FigureSection:
    """A section made of figures. `remark` says what the figures could not show; empty when nothing
    is missing.
    """

    name: str
    title: str
    question: str
    draw: Callable[[Study], list[ReportFigure]]
    remark: Callable[[Study], str] = lambda study: ""


FIGURE_SECTIONS = (
    FigureSection(
        "generalization",
        "Generalization",
        "How the score changes as the task moves away from the tasks that were trained on.",
        generalization_figures,
        undrawn_note,
    ),
    FigureSection(
        "comparison",
        "Methods compared",
        "Each split on its own: how good each method is, how sure one can be, and how often one method beats another.",
        comparison_figures,
    ),
    FigureSection(
        "learning",
        "Learning curves",
        "How the scores rose with training frames and with time.",
        training_figures,
        missing_curves_note,
    ),
    FigureSection(
        "diagnostics",
        "Is the hierarchy used?",
        "A hierarchy whose low level ignores its commands, or whose manager ignores the task, explains nothing.",
        lambda study: diagnostic_figures(study) + goal_figures(study),
    ),
)
SUMMARY_COLUMNS = (
    "return",
    "IQM",
    "95 % CI",
    "episodes",
    "runs x tasks",
    "CI, whole runs",
    "median",
    "gap",
    "success",
)
TERMS = (
    (
        "Normalised score",
        "(R &minus; R<sub>random</sub>) / (R<sub>reference</sub> &minus; R<sub>random</sub>), from the mean "
        "return R of a run on a task over its greedy evaluation episodes. 0 is random play, 1 the reference "
        "return. R<sub>random</sub> is measured per task and taken as exact.",
    ),
    (
        "IQM",
        "Interquartile mean: the mean of the middle half of all runs &times; tasks (25 % trimmed from either end).",
    ),
    ("Median", "The median over tasks of the mean over runs."),
    (
        "Optimality gap",
        "1 minus the mean of the scores after cutting them off at 1: how far runs fall short on average.",
    ),
    (
        "95 % CI",
        "Percentile bootstrap interval, stratified: runs are drawn with replacement anew within each task. It "
        "treats the tasks as independent evidence.",
    ),
    (
        "95 % CI, whole runs",
        "The same, but drawing whole runs with all their tasks. One run learns all tasks, so they share its luck; this "
        "interval allows for that and is usually the wider one.",
    ),
    (
        "Probability of improvement",
        "Mann-Whitney U divided by the number of pairs of runs, averaged over tasks; ties count one half.",
    ),
    ("Run", "One training with one seed. Runs, not episodes, are what intervals are over."),
    (
        "Source",
        "Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, "
        '<a href="https://arxiv.org/abs/2108.13264">arXiv 2108.13264</a>.',
    ),
)


def draw_figures(study: Study) -> dict[str, list[ReportFigure]]:
    """Every figure that the runs have data for, by the section it stands in."""
    return {section.name: section.draw(study) for section in FIGURE_SECTIONS}


def title_of(study: Study) -> str:
    """The report's title."""
    return f"Does the hierarchy help? Suite {words(study.runs.suite.name)}"


def header_of(study: Study) -> str:
    """One paragraph for a reader who knows nothing of the project, the counts, and the cautions."""
    runs = study.runs
    suite = runs.suite
    held_out = [words(split) for split in runs.splits if split != "train"]
    verb = "compares" if len(study.compared) > 1 else "shows"
    explanation = (
        f"This report {verb} {_listing(study.compared)} on the task suite “{words(suite.name)}”. Every agent "
        f"sees camera pixels and a vector that describes the task, and was trained on {len(suite.splits['train'])} "
        "tasks at once. The last checkpoint of each run was then evaluated greedily on those tasks"
        + (f" and on tasks it never saw ({_listing(held_out)})" if held_out else "")
        + ". Scores are normalised: 0 is random play, 1 the reference return of "
        f"{suite.reference_return:g}. The same colour means the same method everywhere."
    )
    facts = (
        (str(len(study.compared)), "methods compared"),
        (str(sum(len(runs.of(method)) for method in study.compared)), "training runs"),
        (
            str(len(set(zip(runs.scores["split"], runs.scores["task"], strict=True)))),
            "tasks evaluated",
        ),
        (f"{len(runs.scores):,}", "episodes"),
    )
    counted = "".join(f"<li><b>{value}</b><span>{label}</span></li>" for value, label in facts)
    warnings = cautions(study)
    return (
        paragraph(explanation, "lead")
        + f'<ul class="facts">{counted}</ul>'
        + (bullets(warnings, "note") if warnings else "")
    )


def all_sections(
    study: Study, figures: Mapping[str, list[ReportFigure]], command: str
) -> list[Section]:
    """The page from top to bottom; parts for which the runs hold nothing are left out."""
    sections = [
        _summary_section(study),
        *_figure_sections(study, figures, command),
        _video_section(study),
        difference_section(study),
        runs_section(study, command),
        Section(
            "definitions",
            "How the numbers are made",
            [definitions(TERMS), paragraph(_random_note(study))],
        ),
    ]
    return [section for section in sections if section.parts]


def svg_of(figure: ReportFigure) -> bytes:
    """The figure as SVG, the same bytes each time it is drawn."""
    buffer = BytesIO()
    figure.drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _summary_section(study: Study) -> Section:
    header = [text("split"), text("method"), *(number(label) for label in SUMMARY_COLUMNS)]
    lines = by_split(study.summary)
    breaks = [i for i in range(1, len(lines)) if lines[i][0] != lines[i - 1][0]]
    rows = [
        [
            text(words(split) if i == 0 or i in breaks else "", "text head"),
            method_cell(study, method),
            *_numbers(numbers),
        ]
        for i, (split, method, numbers) in enumerate(lines)
    ]
    explanation = (
        "Per split and method: the mean return over runs and tasks; the IQM of the normalised score with its 95 % "
        "interval; how many episodes, and how many runs of how many tasks, stand behind it; the interval that "
        "draws whole runs; median and optimality gap of the score; the share of successful episodes. Undisturbed "
        "greedy episodes of the last checkpoint. Terms are defined at the end."
    )
    per_task = folded("Every task: return and score per method", _task_table(study))
    warning = note_on(study, study.compared)
    notes = [paragraph(warning, "note")] if warning else []
    return Section(
        "summary",
        "Summary",
        [paragraph(explanation), table(header, rows, breaks), *notes, per_task],
    )


def _numbers(numbers: SplitSummary) -> list[Cell]:
    iqm, median, gap = (numbers["aggregates"][name] for name in ("iqm", "median", "optimality_gap"))
    values = (
        f"{numbers['return_mean']:.1f}",
        f"{iqm['value']:.2f}",
        interval_text(iqm["ci95"]),
        f"{numbers['episodes']:,}",
        f"{numbers['runs']} x {numbers['tasks']}",
        interval_text(iqm["ci95_runs"]),
        f"{median['value']:.2f}",
        f"{gap['value']:.2f}",
        f"{100 * numbers['success']:.0f} %",
    )
    return [number(value) for value in values]


def _task_table(study: Study) -> str:
    means = study.table.groupby(["split", "task", "method"]).agg(
        returns=("return", "mean"),
        spread=("return", "std"),
        score=("score", "mean"),
        success=("success", "mean"),
    )
    by_place = means.to_dict("index")
    header = [text("split"), text("task"), text("method")]
    header += [number(label) for label in ("return", "sd over runs", "score", "success")]
    rows = []
    places = [
        (split, task) for split in study.runs.splits for task in study.runs.suite.task_names(split)
    ]
    for split, task in places:
        for method in study.methods_on(split):
            row = by_place[split, task, method]
            values = [
                f"{row['returns']:.1f}",
                _or_dash(row["spread"], ".1f"),
                f"{row['score']:.2f}",
                f"{100 * row['success']:.0f} %",
            ]
            rows.append(
                [
                    text(words(split)),
                    text(task),
                    method_cell(study, method),
                    *(number(value) for value in values),
                ]
            )
    return table(header, rows)


def _figure_sections(
    study: Study, figures: Mapping[str, list[ReportFigure]], command: str
) -> list[Section]:
    sections = []
    for section in FIGURE_SECTIONS:
        drawn = [_image(figure, command) for figure in figures[section.name]]
        remark = section.remark(study)
        parts = [*drawn, *([paragraph(remark, "quiet")] if remark else [])]
        sections.append(
            Section(
                section.name, section.title, [paragraph(section.question), *parts] if parts else []
            )
        )
    return sections


def _image(figure: ReportFigure, command: str) -> str:
    files = f"figures/{figure.name}.png and .pdf"
    source = f"<br>Files: <code>{escape(files)}</code>. Rebuild: <code>{escape(command)}</code>"
    share = figure.drawing.get_figwidth() / WIDTH
    return image(figure.title, svg_of(figure), figure.caption, figure.note, source, share)


def _video_section(study: Study) -> Section:
    embedded, left = fitting(latest_videos(study.runs))
    parts = []
    for task in dict.fromkeys(video.task for video in embedded):
        films = [
            film(video.path.read_bytes(), _film_caption(study, video))
            for video in embedded
            if video.task == task
        ]
        parts.append(f'<h3>{escape(task)}</h3><div class="films">{"".join(films)}</div>')
    if left:
        parts.append(
            folded(
                f"{len(left)} videos left out to keep this page small",
                bullets(str(video.path) for video in left),
            )
        )
    lead = paragraph(
        "The latest film of each method and task, methods side by side, from each method's first seed that has one."
    )
    return Section("videos", "Videos", [lead, *parts] if parts else [])


def _film_caption(study: Study, video: Video) -> str:
    after = "" if video.frames is None else f", after {video.frames:,} frames"
    return f"{swatch(video.method, study.looks[video.method].colour)}<br>seed {video.seed}{after}"


def _random_note(study: Study) -> str:
    return f"The return of random play comes from {study.runs.random_source}."


def _or_dash(value: float, spec: str) -> str:
    return format(value, spec) if value == value else "-"


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
