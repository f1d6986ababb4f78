"""Tests of the report's files, of its page, and of the command that writes it."""

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hrl import reporting
from hrl.cli import run_command
from hrl.reporting.report import save_figure
from hrl.reporting.written_files import replace_written_files
from tests.hrl.synthetic_runs import position_suite, speed_suite, write_fixed, write_trained

COMMAND = "python scripts/report.py runs/a --out <here>"


@pytest.fixture(scope="module")
def written(positions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole report."""
    out = tmp_path_factory.mktemp("out")
    assert (
        reporting.write_report(reporting.load_runs([positions]), out, COMMAND)
        == out / "report.html"
    )
    return out


def test_every_figure_is_there_as_png_and_pdf(written: Path) -> None:
    expected = {
        "aggregates",
        "learning_frames",
        "learning_held_out",
        "learning_per_task",
        "learning_wall_clock",
        "performance_profiles",
        "probability_of_improvement",
        "score_by_distance",
        "score_by_task",
        "score_map",
        "shuffle_diagnostics",
        "skill_usage_skills",
    }
    files = {path.name for path in (written / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in expected for kind in ("png", "pdf")}
    assert all((written / "figures" / name).stat().st_size > 1000 for name in files)


def test_the_page_needs_nothing_from_outside(written: Path) -> None:
    page = (written / "report.html").read_text()
    sources = re.findall(r'(?:src|srcset|data)="([^"]{0,30})', page)
    assert len(sources) == 12 + 1  # the figures and a video
    assert all(source.startswith("data:") for source in sources)
    assert re.findall(r'href="([^"#]+)"', page) == ["https://arxiv.org/abs/2108.13264"]
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert len(page) < 15_000_000


def test_the_page_says_what_a_reader_needs(written: Path) -> None:
    page = (written / "report.html").read_text()
    for section in (
        "summary",
        "claims",
        "generalization",
        "comparison",
        "learning",
        "diagnostics",
        "videos",
        "differences",
        "runs",
    ):
        assert f'<a href="#{section}">' in page
        assert f'<section id="{section}">' in page
    assert page.count("&lt;here&gt;") == 12 + 1  # under every figure and with the runs
    assert "flat: 3 runs (intervals under-cover); skills: 2 runs (intervals under-cover)" in page
    assert "python scripts/train.py folder=flat_0" in page
    assert "0123456789ab" in page
    assert "agent.skill_duration" in page
    assert "1,560,000" in page


def test_summary_json_is_the_summary(written: Path, positions: Path) -> None:
    assert json.loads((written / "summary.json").read_text()) == reporting.summarise(
        reporting.load_runs([positions])
    )


def test_the_summary_is_a_table_of_its_own_with_all_digits(written: Path) -> None:
    table = pd.read_csv(written / "tables" / "summary.csv").set_index(["split", "method"])
    summary = json.loads((written / "summary.json").read_text())["methods"]
    assert len(table) == sum(map(len, summary.values()))
    numbers = summary["flat"]["extrapolation_far"]
    row = table.loc["extrapolation far", "flat"]
    assert row["IQM"] == pytest.approx(numbers["score_iqm"], rel=1e-12)
    assert [row["95 % CI, low"], row["95 % CI, high"]] == pytest.approx(numbers["ci95"], rel=1e-12)
    assert row["success"] == pytest.approx(numbers["success"]["value"], rel=1e-12)
    assert not list((written / "tables").glob("*.tex"))


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    suite = speed_suite()
    suite["splits"] = {"train": suite["splits"]["train"][:2]}
    write_fixed(tmp_path / "runs" / "random", suite, episodes=1)
    runs = reporting.load_runs([tmp_path / "runs"])
    pages = [
        reporting.write_report(runs, tmp_path / name, COMMAND).read_bytes()
        for name in ("one", "two")
    ]
    assert pages[0] == pages[1]
    for path in (tmp_path / "one" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "figures" / path.name).read_bytes()


def test_a_report_leaves_nothing_of_an_earlier_one_but_what_users_changed(tmp_path: Path) -> None:
    suite = speed_suite()
    suite["splits"] = {"train": suite["splits"]["train"][:2]}
    write_fixed(tmp_path / "random", suite, episodes=1)
    write_trained(tmp_path / "skills", suite, skills=2, episodes=1)
    out = tmp_path / "out"

    def files(*runs: str) -> set[Path]:
        loaded = reporting.load_runs([tmp_path / run for run in runs])
        reporting.write_report(loaded, out, COMMAND, latex=len(runs) > 1)
        return {path for path in out.rglob("*") if path.is_file()}

    few = files("random")
    gone = files("random", "skills") - few
    assert {path.suffix for path in gone} == {".tex", ".csv", ".png", ".pdf"}
    mine = {out / "notes.txt", out / "figures" / "mine.png", min(gone)}
    for path in mine:
        path.write_text("mine")
    assert files("random") == few | mine
    (out / ".report.json").write_text('{"files": 3}')
    assert files("random") == few | mine, "a damaged record is as none"


def test_a_record_of_files_elsewhere_removes_none(tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    digest = hashlib.sha256(b"x").hexdigest()
    odd = dict.fromkeys(("../kept.csv", str(kept), "", "\0", "x" * 5000, "gone.csv"), digest)
    record = {"files": odd}
    (out / ".report.json").write_text(json.dumps(record))
    assert replace_written_files(out, []) == []
    assert kept.exists()


def test_any_name_of_a_method_is_shown_as_it_is_and_runs_without_scores_are_named(
    tmp_path: Path,
) -> None:
    suite = speed_suite()
    suite["splits"] = {"train": suite["splits"]["train"][:2]}
    write_fixed(tmp_path / "random", suite, episodes=1)
    write_trained(tmp_path / "mathematics", suite, method="$x_$", skills=2, episodes=1)
    write_trained(tmp_path / "markup", suite, method="<b>&$", episodes=1)
    write_trained(tmp_path / "unfinished", suite, seed=1, episodes=1)
    (tmp_path / "unfinished" / "scores.csv").unlink()
    path = reporting.write_report(reporting.load_runs([tmp_path]), tmp_path / "out", COMMAND)
    page = path.read_text()
    assert "$x_$" in page
    assert "&lt;b&gt;&amp;$" in page
    assert "<b>&$" not in page
    assert page.count(str(tmp_path / "unfinished")) == 2  # warned of, and listed


def test_the_command_reports_one_run_of_one_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = position_suite()
    suite["splits"] = {"train": suite["splits"]["train"][:2]}
    write_trained(tmp_path / "runs" / "only", suite, episodes=1)
    write_fixed(tmp_path / "runs" / "random", suite, episodes=1)
    assert run_command("report", [str(tmp_path / "ru*"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "score IQM" in printed
    assert f"report: {tmp_path / 'out' / 'report.html'}" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert "flat: 1 run (no interval)" in page
    assert "<b>1</b><span>method compared</span>" in page
    assert "<b>1</b><span>training run</span>" in page
    assert "<b>2</b><span>tasks evaluated</span>" in page
    assert "pixel-hrl report" in page


def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("report", [str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "nowhere: no run folder there" in captured.err


def test_a_figure_that_a_full_disk_stops_is_named_and_leaves_the_old_one(tmp_path, monkeypatch):
    def full(self, file, **settings):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "scores.png"
    path.write_bytes(b"whole")
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*scores\.png'"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]
