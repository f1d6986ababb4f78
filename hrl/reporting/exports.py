"""Write every table of the report as CSV, and as LaTeX for papers."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

from hrl.reporting.page import Cell, Folded, Part, Section, Table
from hrl.run.atomic_files import write_text_atomic

LATEX_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def write_tables(sections: Iterable[Section], folder: Path, *, latex: bool = False) -> list[Path]:
    """Write each table of a page into a folder, as NAME.csv and perhaps NAME.tex.

    Args:
        sections: of the page.
        folder: where the files go; made where it is missing.
        latex: whether to write NAME.tex too.

    Returns:
        The files' paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for stem, table in _named_tables(sections).items():
        texts = {"csv": csv_text(table)} | ({"tex": latex_text(table)} if latex else {})
        for kind, content in texts.items():
            written.append(folder / f"{stem}.{kind}")
            write_text_atomic(written[-1], content)
    return written


def csv_text(table: Table) -> str:
    """Return a table as CSV: numbers with all their digits, intervals in a column for each end."""
    columns = [_csv_column(label, cells) for label, cells in _columns(table)]
    lines = zip(*(column for group in columns for column in group), strict=True)
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def latex_text(table: Table) -> str:
    r"""Return a table as a LaTeX `tabular`; the preamble needs `\usepackage{booktabs}`."""
    alignment = "".join("l" if "text" in cell.kind else "r" for cell in table.header)
    lines = [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
    ]
    for index, row in enumerate(table.rows):
        lines += [r"\midrule"] if index in table.breaks else []
        lines.append(_latex_row(row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def file_stem(name: str) -> str:
    """Return a name with only such characters as every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


# Private functions.


def _named_tables(sections: Iterable[Section]) -> dict[str, Table]:
    """Return the tables by their files' stems, numbered where stems are alike."""
    found: dict[str, Table] = {}
    for table in (table for section in sections for table in _tables(section.parts)):
        stem = file_stem(table.name)
        taken = sum(
            re.fullmatch(rf"{re.escape(stem)}(_\d+)?", other) is not None for other in found
        )
        found[f"{stem}_{taken + 1}" if stem in found else stem] = table
    return found


def _tables(parts: Sequence[Part]) -> Iterator[Table]:
    for part in parts:
        if isinstance(part, Table):
            yield part
        elif isinstance(part, Folded):
            yield from _tables(part.parts)


def _columns(table: Table) -> Iterator[tuple[str, list[Cell]]]:
    for index, label in enumerate(table.header):
        yield label.text, [row[index] for row in table.rows]


def _csv_column(label: str, cells: Sequence[Cell]) -> list[list[object]]:
    """Return the column as one list, or as two where its cells are intervals."""
    values = [cell.text if cell.value is None else cell.value for cell in cells]
    if not any(isinstance(value, tuple) for value in values):
        return [[label, *values]]
    ends = [value if isinstance(value, tuple) else (value, value) for value in values]
    return [
        [f"{label}, {name}", *(pair[place] for pair in ends)]
        for place, name in enumerate(("low", "high"))
    ]


def _latex_row(cells: Sequence[Cell]) -> str:
    return " & ".join(_latex(cell.text) for cell in cells) + r" \\"


def _latex(shown: str) -> str:
    escaped = "".join(LATEX_CHARACTERS.get(character, character) for character in shown)
    if shown == "-":
        return "--"
    # A row that begins with a bracket would be read as an option of the line break before it.
    return f"{{{escaped}}}" if escaped.startswith("[") else escaped
