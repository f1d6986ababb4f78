"""What reports say of fine-tuning runs, against numbers worked out by hand."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from hrl import reporting
from hrl.reporting.cautions import cautions
from hrl.reporting.differences import disagreements
from hrl.reporting.figures.finetuning import finetuning_figures
from hrl.reporting.finetuned import cells, measure_finetuned
from hrl.reporting.finetuning_claims import compare_cells, finetuning_claims
from hrl.reporting.finetuning_tables import finetuning_tables
from hrl.reporting.page import Table
from hrl.reporting.report import write_finetuning_csv
from hrl.reporting.sections import FIGURE_SECTIONS, draw_figures
from hrl.reporting.study import study_of
from hrl.reporting.suite_record import RunFolderError
from tests.hrl.reporting.editing import edit_config
from tests.hrl.synthetic_runs import (
    position_suite,
    speed_suite,
    write_finetuned,
    write_fixed,
    write_trained,
)

CURVE = {0: 0.2, 50_000: 0.4, 75_000: 0.9, 100_000: 0.7}
AREA = (0.3 * 50_000 + 0.65 * 25_000 + 0.8 * 25_000) / 100_000
FAR = "extrapolation_far"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sources, random play, and runs of two presets, two methods and two targets."""
    out, suite = tmp_path_factory.mktemp("finetuned"), position_suite()
    for method in ("flat", "skills"):
        write_trained(out / method, suite, method=method)
    write_fixed(out / "random", suite)
    for seed, forgotten in enumerate((0.3, 0.1)):
        tuned = {"seed": seed, "forgotten": forgotten, "parameters": 1234}
        write_finetuned(out / f"manager_{seed}", suite, FAR, curve=CURVE, score=0.8, **tuned)
    slow = {0: 0.0, 100_000: 0.5}
    write_finetuned(
        out / "scratch", suite, FAR, method="flat", preset="scratch", curve=slow, score=0.5
    )
    write_finetuned(out / "near", suite, "extrapolation_near", curve=slow, score=0.6)
    return out


@pytest.fixture(scope="module")
def runs(folder):
    return reporting.load_runs([folder])


def test_each_run_is_measured_as_by_hand(runs):
    measured = {Path(run.path).name: run for run in measure_finetuned(runs)}
    manager = measured["manager_0"]
    assert (manager.target, manager.preset) == (f"point_mass: {FAR}", "manager")
    assert manager.source_method == "skills"
    # Scores of random play are 0 but for the noise of its episodes.
    assert manager.score == pytest.approx(0.8, abs=0.02)
    assert manager.area == pytest.approx(AREA, abs=0.02)
    assert manager.frames_to_reach == 75_000
    assert manager.trained_parameters == 1234
    assert manager.forgetting == pytest.approx(0.3, abs=0.01)
    assert measured["scratch"].frames_to_reach is None
    assert measured["scratch"].area == pytest.approx(0.25, abs=0.02)


def test_fine_tuning_runs_stand_apart_from_the_others(runs):
    assert runs.methods == ["flat", "skills", "random"]
    assert len(runs.finetuned) == 4
    groups = {
        (cell.target, cell.source_method, cell.preset): cell
        for cell in cells(measure_finetuned(runs))
    }
    cell = groups[f"point_mass: {FAR}", "skills", "manager"]
    assert cell.scores.shape == (2, 4)
    frames, scores = cell.curves()
    assert frames.tolist() == list(CURVE)
    assert scores.shape == (4, 2, 1)


@pytest.mark.parametrize(
    ("method", "preset"),
    [
        ("skills-all", "all"),
        ("skills-all-agent.learning_rate-1e-5", "all-agent.learning_rate-1e-5"),
        ("mine", "all (mine)"),
    ],
)
def test_runs_of_other_settings_are_no_further_seeds(folder, tmp_path, method, preset):
    """The name of a run tells them apart: two learning rates are two rows."""
    out, suite = tmp_path / "runs", position_suite()
    shutil.copytree(folder, out)
    for name, seed in (("usual", 0), ("other", 0 if method != "skills-all" else 1)):
        write_finetuned(out / name, suite, FAR, preset="all", curve=CURVE, score=0.7, seed=seed)
    for file in (out / "other").iterdir():
        file.write_text(file.read_text().replace("skills-all", method))
    found = cells(measure_finetuned(reporting.load_runs([out])))
    seeds = {cell.preset: len(cell.runs) for cell in found if cell.preset.startswith("all")}
    assert seeds == ({"all": 2} if preset == "all" else {"all": 1, preset: 1})


def test_the_report_has_the_section_and_its_numbers_as_csv(folder, tmp_path):
    study = study_of(reporting.load_runs([folder]))
    (section,) = [one for one in FIGURE_SECTIONS if one.name == "finetuning"]
    drawn = [figure.name for figure in section.draw(study)]
    assert drawn == ["finetuning_matrix", "finetuning_curves"]
    tables = [part for part in section.tables(study) if isinstance(part, Table)]
    assert [table.name for table in tables] == [
        f"finetuning_claims_point_mass: {FAR}_flat_skills",
        f"finetuning_matrix_point_mass: {FAR}",
        f"finetuning_point_mass: {FAR}",
        "finetuning_matrix_point_mass: extrapolation_near",
        "finetuning_point_mass: extrapolation_near",
    ]
    assert [cell.text for cell in tables[1].header] == [
        "score at the end, by parts",
        "flat",
        "skills",
    ]
    write_finetuning_csv(study, tmp_path)
    table = pd.read_csv(tmp_path / "finetuning.csv")
    assert len(table) == 4
    row = table.query("parts == 'manager' and seed == 0 and target.str.contains('far')").iloc[0]
    assert row["frames_to_80_percent"] == 75_000
    assert row["area_under_curve"] == pytest.approx(AREA, abs=0.02)
    scratch = table.query("parts == 'scratch'").iloc[0]
    assert pd.isna(scratch["frames_to_80_percent"])
    curves = pd.read_csv(tmp_path / "finetuning_curves.csv")
    assert curves.query("parts == 'manager' and seed == 1")["frames"].tolist() == list(CURVE)


def test_claims_about_fine_tuning_rest_on_intervals(tmp_path):
    suite = position_suite()
    write_fixed(tmp_path / "random", suite)
    write_trained(tmp_path / "skills", suite, method="skills")
    starts = {"manager": (0.5, 0.6), "low_level": (0.0, 0.9), "scratch": (0.1, 0.2)}
    for preset, values in starts.items():
        for seed, start in enumerate(values):
            curve = {0: start, 100_000: start + 0.1}
            write_finetuned(
                tmp_path / f"{preset}_{seed}",
                suite,
                FAR,
                preset=preset,
                seed=seed,
                curve=curve,
                score=start,
            )
    write_finetuned(
        tmp_path / "flat", suite, FAR, method="flat", preset="all", curve=CURVE, score=1
    )
    short = {0: 0.0, 5_000: 0.1}
    write_finetuned(
        tmp_path / "short", suite, FAR, method="flat", preset="policy", curve=short, score=1
    )
    found = cells(study_of(reporting.load_runs([tmp_path])).finetuned)
    by_name = {cell.name: cell for cell in found}
    compared = compare_cells(by_name["skills manager"], by_name["skills scratch"])
    # Areas are 0.55 and 0.65 against 0.15 and 0.25.
    assert compared.area["value"] == pytest.approx(0.4, abs=0.01)
    assert compared.area["ci95"] == pytest.approx([0.3, 0.5], abs=0.01)
    sentences, _, table = finetuning_claims(f"point_mass: {FAR}", found)
    seeds = "at 2 seeds (too few: intervals under-cover)"
    assert sentences.sentences == [
        f"skills with manager scores higher than learning from scratch {seeds}.",
        f"skills with low_level is indistinguishable from learning from scratch {seeds}.",
    ]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["all", "one run", "one run", "one run"],
        ["policy", "unequal budgets", "unequal budgets", "unequal budgets"],
    ]


def test_seeds_of_other_settings_are_named_at_the_top(folder, tmp_path):
    out = Path(shutil.copytree(folder, tmp_path / "runs"))
    assert disagreements(reporting.load_runs([out])) == []
    edit_config(out / "manager_1", lambda config: config["agent"].update(learning_rate=0.5))
    runs = reporting.load_runs([out])
    (found,) = disagreements(runs)
    assert found.method == f"skills-manager fine-tuned to point_mass {FAR}"
    assert (found.key, found.values[1]) == ("agent.learning_rate", "0.5")
    assert any("configured differently" in sentence for sentence in cautions(study_of(runs)))


def test_a_run_that_learned_on_since_its_evaluation_counts_as_far_as_it_was_evaluated(
    folder, tmp_path
):
    out = Path(shutil.copytree(folder, tmp_path / "runs"))
    before = {Path(run.path).name: run for run in measure_finetuned(reporting.load_runs([out]))}
    longer = write_finetuned(
        tmp_path / "longer", position_suite(), FAR, curve={**CURVE, 200_000: 1.0}, score=1.0
    )
    for name in ("metrics.jsonl", "forgetting.csv"):
        shutil.copy(longer / name, out / "manager_0" / name)
    runs = reporting.load_runs([out])
    after = {Path(run.path).name: run for run in measure_finetuned(runs)}["manager_0"]
    assert (after.budget, after.area) == (100_000, before["manager_0"].area)
    assert after.forgetting is None
    (older,) = [one for one in cautions(study_of(runs)) if "trained on since the" in one]
    assert "manager_0 after 100,000 of 200,000 frames" in older


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"target": None}, "finetune.target is None, not text"),
        ({"source_method": 3}, "finetune.source_method is 3, not text"),
        ({"source_reference_return": "x"}, "source_reference_return is 'x', not a finite number"),
    ],
)
def test_damaged_records_of_the_source_are_refused_by_key(folder, tmp_path, change, complaint):
    out = Path(shutil.copytree(folder, tmp_path / "runs"))
    edit_config(out / "near", lambda config: config["finetune"].update(change))
    with pytest.raises(RunFolderError, match=rf"near.config\.yaml: .*{complaint}"):
        reporting.load_runs([out])


def test_runs_of_one_preset_that_learned_for_longer_are_refused(folder, tmp_path):
    run = write_finetuned(
        tmp_path / "longer", position_suite(), FAR, seed=2, curve={0: 0, 200_000: 1}, score=1
    )
    with pytest.raises(RunFolderError, match=r"100,000 frames, .*longer of .* after 200,000"):
        reporting.load_runs([folder, run])


def test_without_the_sources_one_target_is_reported_and_several_are_refused(folder, tmp_path):
    with pytest.raises(RunFolderError, match="add the runs that they started from"):
        reporting.load_runs([folder / "manager_0", folder / "near"])
    suite = position_suite()
    reference = tmp_path / "scores"
    reference.mkdir()
    write_fixed(tmp_path / "random", suite)
    (tmp_path / "random" / "scores.csv").rename(reference / "point_mass.csv")
    runs = reporting.load_runs([folder / "manager_0", folder / "manager_1"], reference)
    assert runs.methods == ["skills-manager"]
    study = study_of(runs)
    assert not disagreements(runs), "each seed has a source of its own"
    drawn = {figure.name for figures in draw_figures(study).values() for figure in figures}
    assert {"finetuning_matrix", "finetuning_curves", "learning_frames"} <= drawn


def test_other_reports_have_no_such_section(positions, tmp_path):
    study = study_of(reporting.load_runs([positions]))
    assert finetuning_tables(study) == finetuning_figures(study) == []
    write_finetuning_csv(study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_target_of_another_suite_is_normalised_by_its_own_random_play(folder, tmp_path):
    other = speed_suite()
    reference = tmp_path / "scores"
    reference.mkdir()
    run = write_finetuned(tmp_path / "other", other, "novel", curve=CURVE, score=0.8)
    paths = [folder / "flat", folder / "random", run]
    with pytest.raises(RunFolderError, match="random play on suite 'walker_speed' is unknown"):
        measure_finetuned(reporting.load_runs(paths, reference))
    write_fixed(tmp_path / "random", other)
    (tmp_path / "random" / "scores.csv").rename(reference / "walker_speed.csv")
    (measured,) = measure_finetuned(reporting.load_runs(paths, reference))
    assert measured.score == pytest.approx(0.8, abs=0.02)
    assert measured.forgetting == pytest.approx(0.0, abs=0.01)


def test_what_was_not_measured_is_left_blank(folder, tmp_path):
    suite = position_suite()
    run = write_finetuned(tmp_path / "bare", suite, FAR, curve={1000: 0.5}, score=0.4)
    (run / "forgetting.csv").unlink()
    (run / "metrics.jsonl").write_text(json.dumps({"frames": 1000}) + "\n")
    runs = reporting.load_runs([folder / "flat", folder / "random", run])
    (measured,) = measure_finetuned(runs)
    assert measured.area is measured.forgetting is measured.frames_to_reach is None
    study = study_of(runs)
    numbers = finetuning_tables(study)[-1]
    (row,) = numbers.rows
    assert [cell.text for cell in row[4:]] == ["-", "-", "-", "1,000", "-", "-", "1,000", "1"]
    assert [figure.name for figure in finetuning_figures(study)] == ["finetuning_matrix"]
