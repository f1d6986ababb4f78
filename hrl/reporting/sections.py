"""Write the report's text and tables, section by section, in the order in which a reader asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from hrl.reporting.cautions import cautions
from hrl.reporting.claims import claims_section
from hrl.reporting.figures.comparison import comparison_figures
from hrl.reporting.figures.diagnostics import diagnostic_figures
from hrl.reporting.figures.finetuning import finetuning_figures
from hrl.reporting.figures.generalization import generalization_figures, undrawn_note
from hrl.reporting.figures.goals import goal_figures
from hrl.reporting.figures.path_length import path_length_figures
from hrl.reporting.figures.severity import severity_figures
from hrl.reporting.figures.style import WIDTH, ReportFigure
from hrl.reporting.figures.training import missing_curves_note, training_figures
from hrl.reporting.finetuning_tables import finetuning_tables
from hrl.reporting.page import (
    Bullets,
    Cell,
    Definitions,
    FigurePart,
    Folded,
    Header,
    Heading,
    Paragraph,
    Part,
    Section,
    Table,
    VideoPart,
    VideoRow,
    interval,
    number,
    quantity,
    share,
    text,
)
from hrl.reporting.path_lengths import path_length_tables
from hrl.reporting.records import difference_section, method_cell, runs_section
from hrl.reporting.severity import severity_tables
from hrl.reporting.study import Study, listing, note_on, plural, words
from hrl.reporting.summary import SAME_TASKS, SplitSummary, any_varied, by_split
from hrl.reporting.videos import Video, fitting, latest_videos


@dataclass(frozen=True)
class FigureSection:
    """Describe a section made of figures.

    remark: returns what the figures could not show; empty when nothing is missing.
    tables: returns what stands above the figures.
    """

    name: str
    title: str
    question: str
    draw: Callable[[Study], list[ReportFigure]]
    remark: Callable[[Study], str] = lambda study: ""
    tables: Callable[[Study], list[Part]] = lambda study: []


FIGURE_SECTIONS = (
    FigureSection(
        "generalization",
        "Generalization",
        "How the score changes as the task moves away from the tasks that were trained on.",
        lambda study: [
            *generalization_figures(study),
            *path_length_figures(study),
            *severity_figures(study),
        ],
        undrawn_note,
        lambda study: path_length_tables(study) + severity_tables(study),
    ),
    FigureSection(
        "comparison",
        "Methods compared",
        "Each split on its own: how good each method is, how sure one can be, and how often one "
        "method beats another.",
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
        "finetuning",
        "Fine-tuning",
        "Which parts have to learn for a novel task, how fast they do, and what is forgotten.",
        finetuning_figures,
        tables=finetuning_tables,
    ),
    FigureSection(
        "diagnostics",
        "Is the hierarchy used?",
        "A hierarchy explains nothing if its low level ignores the high-level actions, or if its "
        "manager ignores the task.",
        lambda study: diagnostic_figures(study) + goal_figures(study),
    ),
)
SUMMARY_COLUMNS = (
    "return",
    "success",
    "success CI",
    "IQM",
    "95 % CI",
    "CI, whole runs",
    SAME_TASKS,
    "median",
    "mean",
    "gap",
    "episodes",
    "runs",
    "tasks",
)


def draw_figures(study: Study) -> dict[str, list[ReportFigure]]:
    """Draw every figure that the runs have data for, by the section it stands in."""
    return {section.name: section.draw(study) for section in FIGURE_SECTIONS}


def title_of(study: Study) -> str:
    """Return the report's title."""
    return f"Does the hierarchy help? Suite {words(study.runs.suite.name)}"


def header_of(study: Study) -> Header:
    """Return a paragraph for a reader new to the project, the counts, and the cautions."""
    runs = study.runs
    places = set(zip(runs.scores["split"], runs.scores["task"], strict=True))
    trained = sum(len(runs.of(method)) for method in study.compared)
    facts = (
        (str(len(study.compared)), f"{plural(len(study.compared), 'method')} compared"),
        (str(trained), plural(trained, "training run")),
        (str(len(places)), f"{plural(len(places), 'task')} evaluated"),
        (f"{len(runs.scores):,}", plural(len(runs.scores), "episode")),
    )
    return Header(_lead(study), facts, cautions(study))


def _lead(study: Study) -> str:
    suite = study.runs.suite
    held_out = [words(split) for split in study.runs.splits if split != "train"]
    verb = "compares" if len(study.compared) > 1 else "shows"
    never_seen = f" and on tasks it never saw ({listing(held_out)})" if held_out else ""
    return (
        f"This report {verb} {listing(study.compared)} on the task suite “{words(suite.name)}”. "
        "Every agent sees camera pixels and a vector that describes the task, and was trained on "
        f"{_at_once(len(suite.splits['train']))}. The last checkpoint of each run was then "
        f"evaluated greedily on the training split{never_seen}. Scores are normalised: 0 is "
        f"random play, 1 the reference return of {suite.reference_return:g}. The same colour means "
        "the same method everywhere."
    )


def all_sections(
    study: Study, figures: Mapping[str, list[ReportFigure]], command: str
) -> list[Section]:
    """Return the page from top to bottom, without parts for which the runs hold nothing."""
    sections = [
        _summary_section(study),
        claims_section(study),
        *_figure_sections(study, figures, command),
        _video_section(study),
        difference_section(study),
        runs_section(study, command),
        Section(
            "definitions",
            "How the numbers are made",
            [Definitions(), Paragraph(_random_note(study))],
        ),
    ]
    return [section for section in sections if section.parts]


def svg_of(figure: ReportFigure) -> bytes:
    """Return the figure as SVG, the same bytes each time it is drawn."""
    buffer = BytesIO()
    figure.drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _summary_section(study: Study) -> Section:
    columns = [
        label for label in SUMMARY_COLUMNS if label != SAME_TASKS or any_varied(study.summary)
    ]
    header = [text("split"), text("method"), *(number(label) for label in columns)]
    lines = by_split(study.summary)
    breaks = [i for i in range(1, len(lines)) if lines[i][0] != lines[i - 1][0]]
    rows = [
        [
            text(words(split) if i == 0 or i in breaks else "", "text head", words(split)),
            method_cell(study, method),
            *(_numbers(numbers)[label] for label in columns),
        ]
        for i, (split, method, numbers) in enumerate(lines)
    ]
    explanation = (
        "Per split and method: the mean return over runs and tasks; the share of successful "
        "episodes with its 95 % interval, which draws whole runs; the IQM of the normalised score "
        "with both of its intervals; for splits that change something about single training tasks, "
        "the return and the mean score on these training tasks unchanged; median, mean and "
        "optimality gap of the score; how many episodes, runs and tasks stand behind it. "
        "Undisturbed greedy episodes of the last checkpoint. Terms are defined at the end."
    )
    warning = note_on(study, study.compared)
    notes = [Paragraph(warning, "note")] if warning else []
    per_task = Folded("Every task: return and score per method", [_task_table(study)])
    return Section(
        "summary",
        "Summary",
        [Paragraph(explanation), Table("summary", header, rows, breaks), *notes, per_task],
    )


def _numbers(numbers: SplitSummary) -> dict[str, Cell]:
    """Return the values of SUMMARY_COLUMNS."""
    scores = numbers["aggregates"]
    same = numbers["training"]
    return {
        "return": quantity(numbers["return_mean"], 1),
        "success": share(numbers["success"]["value"]),
        "success CI": interval(numbers["success"]["ci95_runs"]),
        "IQM": quantity(scores["iqm"]["value"]),
        "95 % CI": interval(scores["iqm"]["ci95"]),
        "CI, whole runs": interval(scores["iqm"]["ci95_runs"]),
        SAME_TASKS: number(
            f"{same['return_mean']:z.1f}, {same['score_mean']:z.2f}" if same else "-"
        ),
        "median": quantity(scores["median"]["value"]),
        "mean": quantity(scores["mean"]["value"]),
        "gap": quantity(scores["optimality_gap"]["value"]),
        "episodes": quantity(numbers["episodes"], 0),
        "runs": quantity(numbers["runs"], 0),
        "tasks": quantity(numbers["tasks"], 0),
    }


def _task_table(study: Study) -> Table:
    means = study.table.groupby(["split", "task", "method"]).agg(
        returns=("return", "mean"),
        spread=("return", "std"),
        score=("score", "mean"),
        success=("success", "mean"),
    )
    by_place = means.to_dict("index")
    header = [text("split"), text("task"), text("method")]
    header += [number(label) for label in ("return", "sd over runs", "score", "success")]
    suite = study.runs.suite
    rows = [
        [
            text(words(split)),
            text(task),
            method_cell(study, method),
            *_task_numbers(by_place[split, task, method]),
        ]
        for split in study.runs.splits
        for task in suite.task_names(split)
        for method in study.methods_on(split)
    ]
    return Table("tasks", header, rows)


def _task_numbers(row: Mapping[Any, float]) -> list[Cell]:
    return [
        quantity(row["returns"], 1),
        quantity(row["spread"], 1),
        quantity(row["score"]),
        share(row["success"]),
    ]


def _figure_sections(
    study: Study, figures: Mapping[str, list[ReportFigure]], command: str
) -> list[Section]:
    sections = []
    for section in FIGURE_SECTIONS:
        drawn = [_figure_part(figure, command) for figure in figures[section.name]]
        remark = section.remark(study)
        notes = [Paragraph(remark, "quiet")] if remark else []
        parts: list[Part] = [*section.tables(study), *drawn, *notes]
        lead = [Paragraph(section.question)] if parts else []
        sections.append(Section(section.name, section.title, [*lead, *parts]))
    return sections


def _figure_part(figure: ReportFigure, command: str) -> FigurePart:
    return FigurePart(
        title=figure.title,
        svg=svg_of(figure),
        caption=figure.caption,
        note=figure.note,
        files=f"figures/{figure.name}.png and .pdf",
        command=command,
        percent=round(100 * figure.drawing.get_figwidth() / WIDTH),
    )


def _video_section(study: Study) -> Section:
    embedded, left = fitting(latest_videos(study.runs))
    parts: list[Part] = []
    for task in dict.fromkeys(video.task for video in embedded):
        of_task = [_video_part(study, video) for video in embedded if video.task == task]
        parts += [Heading(task), VideoRow(of_task)]
    if left:
        summary = f"{len(left)} {plural(len(left), 'video')} left out to keep this page small"
        parts.append(Folded(summary, [Bullets([str(video.path) for video in left])]))
    lead = Paragraph(
        "The latest video of each method and task, methods side by side, from each method's first "
        "seed that has one."
    )
    return Section("videos", "Videos", [lead, *parts] if parts else [])


def _video_part(study: Study, video: Video) -> VideoPart:
    after = "" if video.frames is None else f", after {video.frames:,} frames"
    colour = study.styles[video.method].colour
    return VideoPart(video.path.read_bytes(), video.method, colour, f"seed {video.seed}{after}")


def _random_note(study: Study) -> str:
    return f"The return of random play comes from {study.runs.random_source}."


def _at_once(tasks: int) -> str:
    return f"{tasks} tasks at once" if tasks > 1 else "1 task"
