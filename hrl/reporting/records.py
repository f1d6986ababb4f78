"""How the runs were made: what differs between the methods, and the record of every run."""

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
    Cell,
    Section,
    bullets,
    code,
    folded,
    number,
    paragraph,
    swatch,
    table,
    text,
)
from hrl.reporting.runs import Run
from hrl.reporting.study import Study


def method_cell(study: Study, method: str, kind: str = "text") -> Cell:
    """A method's name with its colour."""
    return Cell(swatch(method, study.looks[method].colour), kind)


def difference_section(study: Study) -> Section:
    """Settings that differ between the methods, the sizes of their parts, and settings that differ
    within a method.
    """
    methods = study.compared
    if len(methods) < 2:
        lead = [
            paragraph(
                f"Only one method, {methods[0]}, is compared here: there is nothing to differ from."
            )
        ]
    else:
        lead = [
            paragraph(
                "Every setting that is not the same in all methods, from the resolved configurations of the runs."
            )
        ]
        lead += _difference_tables(study, config_differences(study.runs, methods), methods)
    found = [
        f"{one.method}: {one.key} is "
        + ", ".join(f"{value} (seed {seed})" for seed, value in one.values.items())
        for one in disagreements(study.runs)
    ]
    mixed = [
        paragraph("Runs of one method should differ in their seed alone, but these do not:"),
        bullets(found, "note"),
    ]
    return Section(
        "differences",
        "What differs between these methods",
        [*lead, *_parameter_table(study), *(mixed if found else [])],
    )


def _difference_tables(study: Study, rows: list[Difference], methods: Sequence[str]) -> list[str]:
    if not rows:
        return [paragraph("No setting differs.")]
    header = [text("spec"), *(method_cell(study, method) for method in methods)]
    changed, added = ([row for row in rows if row.shared == shared] for shared in (True, False))
    parts = [table(header, [_difference_cells(row, methods) for row in changed])] if changed else []
    if added:
        parts.append(paragraph("Settings that only some of the methods have:"))
        parts.append(table(header, [_difference_cells(row, methods) for row in added]))
    return parts


def _difference_cells(row: Difference, methods: Sequence[str]) -> list[Cell]:
    return [text(row.key), *(text(row.values[method], "text long") for method in methods)]


def _parameter_table(study: Study) -> list[str]:
    methods = study.compared
    counts = parameter_counts(study.runs, methods)
    if not counts:
        return []
    header = [text("trainable parameters"), *(method_cell(study, method, "") for method in methods)]
    rows = [
        [
            text(part),
            *(
                number(f"{by_method[method]:,}" if method in by_method else "-")
                for method in methods
            ),
        ]
        for part, by_method in counts.items()
    ]
    return [table(header, rows)]


def runs_section(study: Study, command: str) -> Section:
    """Where every number comes from: folder, revision, hardware, command and configuration of each
    run.
    """
    header = [
        text("method"),
        number("seed"),
        text("folder"),
        number("frames"),
        number("training time"),
    ]
    header += [text(label) for label in ("revision", "hardware", "created")]
    rows = [
        [
            method_cell(study, run.method),
            number(str(run.seed)),
            text(str(run.path), "text long"),
            number(f"{run.frames:,}"),
            number(_training_time(run)),
            text(_revision(run)),
            text(_hardware(run), "text long"),
            text(str(run.environment.get("created", "-"))[:16]),
        ]
        for run in study.runs.runs
    ]
    records = [
        folded(f"{run.method}, seed {run.seed}: command, configuration, versions", _record(run))
        for run in study.runs.runs
    ]
    parts = [
        paragraph("This report, all its figures and summary.json are rebuilt by:"),
        code(command, "command"),
    ]
    return Section("runs", "Runs", [*parts, table(header, rows), *records])


def _record(run: Run) -> str:
    versions = json.dumps(run.environment.get("versions", {}), indent=1)
    parts = (
        ("command", code(str(run.environment.get("command", "not recorded")), "command")),
        (
            "config.yaml",
            code(yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)),
        ),
        ("versions", code(versions)),
        ("hardware", code(json.dumps(run.environment.get("hardware", {}), indent=1))),
    )
    return "<div>" + "".join(f"<h3>{name}</h3>{html}" for name, html in parts) + "</div>"


def _revision(run: Run) -> str:
    revision = str(run.environment.get("revision", "-"))[:12]
    return f"{revision} + changes" if run.environment.get("dirty") else revision


def _hardware(run: Run) -> str:
    hardware = run.environment.get("hardware")
    if not isinstance(hardware, Mapping):
        return "-" if hardware is None else str(hardware)
    gpus = hardware.get("gpus") or []
    parts = [
        hardware.get("cpu"),
        f"{hardware['cores']} cores" if "cores" in hardware else None,
        *gpus,
    ]
    return ", ".join(str(part) for part in parts if part) or json.dumps(hardware)


def _training_time(run: Run) -> str:
    if run.timing.empty:
        return "-"
    seconds = int(run.timing["seconds"].iloc[-1])
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
