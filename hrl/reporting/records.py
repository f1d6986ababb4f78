"""Show how the runs were made: settings that differ between methods, and each run's record."""

import json
from collections.abc import Mapping, Sequence

import yaml

from hrl.reporting.differences import (
    Difference,
    config_differences,
    disagreements,
    parameter_counts,
)
from hrl.reporting.page import (
    Bullets,
    Cell,
    Code,
    Folded,
    Heading,
    Paragraph,
    Part,
    Section,
    Table,
    number,
    quantity,
    text,
)
from hrl.reporting.runs import Run
from hrl.reporting.study import Study


def method_cell(study: Study, method: str, kind: str = "text") -> Cell:
    """Return a cell with a method's name and its colour, which fine-tuned methods lack."""
    style = study.styles.get(method)
    return Cell(method, kind, style.colour if style else "")


def difference_section(study: Study) -> Section:
    """List the settings that differ between the methods, and those that differ within one."""
    methods = study.compared
    if len(methods) < 2:
        lone = f"Only one method, {methods[0]}, is compared here: there is nothing to differ from."
        lead: list[Part] = [Paragraph(lone)]
    else:
        lead = [
            Paragraph(
                "Every setting that is not the same in all methods, from the resolved "
                "configurations of the runs."
            )
        ]
        lead += _difference_tables(study, config_differences(study.runs, methods), methods)
    return Section(
        "differences",
        "What differs between these methods",
        [*lead, *_parameter_table(study), *_mixed_methods(study)],
    )


def _mixed_methods(study: Study) -> list[Part]:
    found = [
        f"{one.method}: {one.key} is "
        + ", ".join(f"{value} (seed {seed})" for seed, value in one.values.items())
        for one in disagreements(study.runs)
    ]
    if not found:
        return []
    lead = "Runs of one method should differ in their seed alone, but these do not:"
    return [Paragraph(lead), Bullets(found, "note")]


def _difference_tables(study: Study, rows: list[Difference], methods: Sequence[str]) -> list[Part]:
    if not rows:
        return [Paragraph("No setting differs.")]
    header = [text("setting"), *(method_cell(study, method) for method in methods)]
    changed = [_difference_cells(row, methods) for row in rows if row.shared]
    added = [_difference_cells(row, methods) for row in rows if not row.shared]
    parts: list[Part] = [Table("settings", header, changed)] if changed else []
    if added:
        parts.append(Paragraph("Settings that only some of the methods have:"))
        parts.append(Table("settings_of_some", header, added))
    return parts


def _difference_cells(row: Difference, methods: Sequence[str]) -> list[Cell]:
    return [text(row.key), *(text(row.values[method], "text long") for method in methods)]


def _parameter_table(study: Study) -> list[Part]:
    methods = study.compared
    counts = parameter_counts(study.runs, methods)
    if not counts:
        return []
    header = [text("trainable parameters"), *(method_cell(study, method, "") for method in methods)]
    rows = [
        [text(part), *(quantity(by_method.get(method), 0) for method in methods)]
        for part, by_method in counts.items()
    ]
    return [Table("parameters", header, rows)]


def runs_section(study: Study, command: str) -> Section:
    """Say where every number comes from: folder, revision, hardware and command of each run."""
    header = [
        text("method"),
        number("seed"),
        text("folder"),
        number("frames"),
        number("training time"),
        text("revision"),
        text("hardware"),
        text("created"),
    ]
    rows = [_run_cells(study, run) for run in study.runs.everything]
    records = [
        Folded(f"{run.method}, seed {run.seed}: command, configuration, versions", _record(run))
        for run in study.runs.runs
    ]
    rebuilt = (
        "This report, all its figures, summary.json and tables/*.csv, which has every table of "
        "this page, are rebuilt by this command; with --latex the tables are there as LaTeX too:"
    )
    parts: list[Part] = [Paragraph(rebuilt), Code(command, "command"), Table("runs", header, rows)]
    return Section("runs", "Runs", [*parts, *records, *_left_out(study)])


def _run_cells(study: Study, run: Run) -> list[Cell]:
    return [
        method_cell(study, run.method),
        number(str(run.seed)),
        text(str(run.path), "text long"),
        quantity(run.frames, 0),
        number(_training_time(run)),
        text(run.revision),
        text(_hardware(run), "text long"),
        text(str(run.environment.get("created", "-"))[:16]),
    ]


def _left_out(study: Study) -> list[Part]:
    if not study.runs.left_out:
        return []
    names = [str(path) for path in study.runs.left_out]
    return [Paragraph("These runs are left out, because they were not evaluated:"), Bullets(names)]


def _record(run: Run) -> list[Part]:
    environment = run.environment
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    return [
        Heading("command"),
        Code(str(environment.get("command", "not recorded")), "command"),
        Heading("config.yaml"),
        Code(config),
        Heading("versions"),
        Code(json.dumps(environment.get("versions", {}), indent=1)),
        Heading("hardware"),
        Code(json.dumps(environment.get("hardware", {}), indent=1)),
    ]


def _hardware(run: Run) -> str:
    hardware = run.environment.get("hardware")
    if not isinstance(hardware, Mapping):
        return "-" if hardware is None else str(hardware)
    cores = f"{hardware['cores']} cores" if "cores" in hardware else None
    parts = [hardware.get("cpu"), cores, *(hardware.get("gpus") or [])]
    return ", ".join(str(part) for part in parts if part) or json.dumps(hardware)


def _training_time(run: Run) -> str:
    if run.timing.empty:
        return "-"
    seconds = int(run.timing["seconds"].iloc[-1])
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
