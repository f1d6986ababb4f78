"""Tests of the tables as files: all of them, with their numbers, and safe in LaTeX."""

import csv
from io import StringIO
from pathlib import Path

import pytest

from hrl.reporting.exports import csv_text, latex_text, write_tables
from hrl.reporting.page import (
    Folded,
    Paragraph,
    Section,
    Table,
    interval,
    number,
    quantity,
    share,
    text,
)

TABLE = Table(
    "scores_a",
    [text("method"), number("score"), number("95 % CI"), number("success")],
    [
        [text("a_b"), quantity(1 / 3), interval((-0.123456, 0.5)), share(1 / 8)],
        [text("50 % & $x$"), quantity(None), interval((None, None)), share(0)],
    ],
    breaks=(1,),
)


def test_csv_has_all_digits_and_a_column_for_each_end_of_an_interval() -> None:
    rows = list(csv.reader(StringIO(csv_text(TABLE))))
    assert rows[0] == ["method", "score", "95 % CI, low", "95 % CI, high", "success"]
    assert rows[1][0] == "a_b"
    assert [float(value) for value in rows[1][1:]] == [1 / 3, -0.123456, 0.5, 1 / 8]
    assert rows[2] == ["50 % & $x$", "", "", "", "0"]


def test_a_blank_cell_of_a_group_has_its_value_in_csv() -> None:
    table = Table("a", [text("split")], [[text("train", value="train")], [text("", value="train")]])
    assert csv_text(table).splitlines() == ["split", "train", "train"]


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    lines = latex_text(TABLE).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}"
    assert lines[2] == r"method & score & 95 \% CI & success \\"
    assert lines[4] == r"a\_b & 0.33 & {[-0.12, 0.50]} & 12 \% \\"
    assert lines[5] == r"\midrule"
    assert lines[6] == r"50 \% \& \$x\$ & -- & -- & 0 \% \\"
    assert lines[-1] == r"\end{tabular}"
    every = Table("a", [text(r"\ ~ ^ < > & % $ # _ { }")], [])
    assert r"\textbackslash{} \textasciitilde{} \textasciicircum{}" in latex_text(every)
    assert r"\& \% \$ \# \_ \{ \}" in latex_text(every)


@pytest.mark.parametrize("latex", [False, True])
def test_every_table_has_a_file_even_where_names_are_alike(latex: bool, tmp_path: Path) -> None:
    tables = [Table(name, [text(name)], []) for name in ("a/b", "a b", "c: d")]
    sections = [
        Section("one", "One", [tables[0], Paragraph("nothing")]),
        Section("two", "Two", [Folded("more", [tables[1], Folded("yet more", [tables[2]])])]),
    ]
    written = write_tables(sections, tmp_path / "tables", latex=latex)
    kinds = ("csv", "tex") if latex else ("csv",)
    expected = [f"{stem}.{kind}" for stem in ("a_b", "a_b_2", "c_d") for kind in kinds]
    assert [path.name for path in written] == expected
    contents = [path.read_text() for path in written if path.suffix == ".csv"]
    assert contents == ["a/b\n", "a b\n", "c: d\n"]
