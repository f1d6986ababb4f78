"""How the runs were made: what differs between the arms, and the record of every run."""

import json
from collections.abc import Mapping, Sequence

import yaml

from hrl.reporting.differences import Difference, config_differences, disagreements, parameter_counts
from hrl.reporting.page import Cell, Section, bullets, code, folded, number, paragraph, swatch, table, text
from hrl.reporting.runs import Run
from hrl.reporting.study import Study


def arm_cell(study: Study, arm: str, kind: str = "text") -> Cell:
    """An arm's name with its colour."""
    return Cell(swatch(arm, study.looks[arm].colour), kind)


def difference_section(study: Study) -> Section:
    """Settings that differ between the arms, the sizes of their parts, and settings that differ within an arm."""
    arms = study.compared
    if len(arms) < 2:
        lead = [paragraph(f"Only one arm, {arms[0]}, is compared here: there is nothing to differ from.")]
    else:
        lead = [
            paragraph("Every setting that is not the same in all arms, from the resolved configurations of the runs.")
        ]
        lead += _difference_tables(study, config_differences(study.runs, arms), arms)
    found = [
        f"{one.arm}: {one.key} is " + ", ".join(f"{value} (seed {seed})" for seed, value in one.values.items())
        for one in disagreements(study.runs)
    ]
    mixed = [paragraph("Runs of one arm should differ in their seed alone, but these do not:"), bullets(found, "note")]
    return Section(
        "differences", "What differs between these arms", [*lead, *_parameter_table(study), *(mixed if found else [])]
    )


def _difference_tables(study: Study, rows: list[Difference], arms: Sequence[str]) -> list[str]:
    if not rows:
        return [paragraph("No setting differs.")]
    header = [text("setting"), *(arm_cell(study, arm) for arm in arms)]
    changed, added = ([row for row in rows if row.shared == shared] for shared in (True, False))
    parts = [table(header, [_difference_cells(row, arms) for row in changed])] if changed else []
    if added:
        parts.append(paragraph("Settings that only some of the arms have:"))
        parts.append(table(header, [_difference_cells(row, arms) for row in added]))
    return parts


def _difference_cells(row: Difference, arms: Sequence[str]) -> list[Cell]:
    return [text(row.key), *(text(row.values[arm], "text long") for arm in arms)]


def _parameter_table(study: Study) -> list[str]:
    arms = study.compared
    counts = parameter_counts(study.runs, arms)
    if not counts:
        return []
    header = [text("trainable parameters"), *(arm_cell(study, arm, "") for arm in arms)]
    rows = [
        [text(part), *(number(f"{by_arm[arm]:,}" if arm in by_arm else "-") for arm in arms)]
        for part, by_arm in counts.items()
    ]
    return [table(header, rows)]


def runs_section(study: Study, command: str) -> Section:
    """Where every number comes from: folder, revision, hardware, command and configuration of each run."""
    header = [text("arm"), number("seed"), text("folder"), number("frames"), number("training time")]
    header += [text(label) for label in ("revision", "hardware", "created")]
    rows = [
        [
            arm_cell(study, run.arm),
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
        folded(f"{run.arm}, seed {run.seed}: command, configuration, versions", _record(run)) for run in study.runs.runs
    ]
    parts = [paragraph("This report, all its figures and summary.json are rebuilt by:"), code(command, "command")]
    return Section("runs", "Runs", [*parts, table(header, rows), *records])


def _record(run: Run) -> str:
    versions = json.dumps(run.environment.get("versions", {}), indent=1)
    parts = (
        ("command", code(str(run.environment.get("command", "not recorded")), "command")),
        ("config.yaml", code(yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True))),
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
    parts = [hardware.get("cpu"), f"{hardware['cores']} cores" if "cores" in hardware else None, *gpus]
    return ", ".join(str(part) for part in parts if part) or json.dumps(hardware)


def _training_time(run: Run) -> str:
    if run.timing.empty:
        return "-"
    seconds = int(run.timing["seconds"].iloc[-1])
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
