"""Tests of how run folders are read, and of what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hrl import reporting
from hrl.reporting.runs import find_run_folders, read_run
from hrl.reporting.suite_record import read_suite
from tests.hrl.damage import damaged
from tests.hrl.reporting.editing import edit_config, edit_scores
from tests.hrl.synthetic_runs import position_suite, write_trained


def test_methods_runs_and_splits_are_found(study: Path) -> None:
    runs = reporting.load_runs([study])
    assert runs.methods == ["flat", "skills", "random"]
    assert runs.trained_methods == ["flat", "skills"]
    assert [run.seed for run in runs.of("flat")] == [0, 1, 2]
    assert runs.splits == ["train", "interpolation", "extrapolation_near", "extrapolation_far"]
    assert "method 'random'" in runs.random_source


def test_folders_globs_and_parents_find_the_same_runs_once(study: Path) -> None:
    (study / "flat_0" / ".hydra").mkdir()
    (study / "flat_0" / ".hydra" / "config.yaml").write_text("hydra: {}")
    everything = find_run_folders([study])
    assert [path.name for path in everything] == [
        "flat_0",
        "flat_1",
        "flat_2",
        "random",
        "skills_0",
        "skills_1",
    ]
    assert find_run_folders([study / "*", study / "flat_0", study]) == everything


def test_only_the_last_checkpoint_counts(study: Path) -> None:
    before = reporting.summarise(reporting.load_runs([study]))["methods"]["flat"]
    earlier = {"frames": "60000", "return": "1e6"}
    edit_scores(study / "flat_0", lambda table: pd.concat([table.assign(**earlier), table]))
    assert reporting.summarise(reporting.load_runs([study]))["methods"]["flat"] == before


def test_random_returns_come_from_the_reference_scores_when_no_run_has_them(
    study: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "scores"
    stored.mkdir()
    with_run = reporting.load_runs([study])
    (study / "random" / "scores.csv").rename(stored / "point_mass.csv")
    runs = reporting.load_runs([study / "flat_*"], reference_scores=stored)
    assert runs.random_returns == with_run.random_returns
    assert runs.random_source == "point_mass.csv"


def test_a_folder_of_reference_scores_that_is_not_there_is_refused(
    study: Path, tmp_path: Path
) -> None:
    """Also where a run of random play makes it superfluous: the user named it."""
    with pytest.raises(reporting.RunFolderError, match=r"nowhere: no such folder; .* SUITE\.csv"):
        reporting.load_runs([study], reference_scores=tmp_path / "nowhere")


def test_without_random_returns_both_ways_are_named(study: Path, tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    with pytest.raises(reporting.RunFolderError, match=r"method 'random'.*scores/point_mass\.csv"):
        reporting.load_runs([study / "flat_*"], reference_scores=tmp_path / "scores")


BAD_SCORES: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    (lambda table: table.drop(columns="length"), r"flat_0/scores\.csv: column 'length' is missing"),
    (
        lambda table: table.assign(**{"return": ["x", *table["return"][1:]]}),
        r"column 'return', line 2: 'x' is not a fin",
    ),
    (lambda table: table.assign(**{"return": "inf"}), r"'inf' is not a finite number"),
    (lambda table: table.assign(success="maybe"), r"column 'success', line 2: 'maybe' is none of"),
    (
        lambda table: table.assign(episode="1.5"),
        r"column 'episode', line 2: '1.5' is not a whole number",
    ),
    (
        lambda table: table.assign(split="later"),
        r"column 'split' has 'later'; suite point_mass has \['train'",
    ),
    (
        lambda table: table.assign(task=table.task.replace("train_1", "nothing")),
        r"column 'task', split .*'nothing' is none of",
    ),
    (lambda table: table.assign(task=""), r"column 'task', line 2: '' is empty"),
    (
        lambda table: table[table.task != "train_1"],
        r"'train_1' was not evaluated at the last checkpoint",
    ),
    (lambda table: table.assign(seed="5"), r"column 'seed' has 5, but config\.yaml says 0"),
    (
        lambda table: table.assign(method="other"),
        r"column 'method' has 'other', but config\.yaml says 'flat'",
    ),
    (
        lambda table: pd.concat([table, table[:1]]),
        r"the same episode stands there twice \(method flat, seed 0, split train",
    ),
    (lambda table: table[:0], r"has a header but no rows"),
    (
        lambda table: table[table.split != "interpolation"],
        r"flat_0/scores\.csv: nothing for split 'interpolation' at the last.*flat_1",
    ),
]


@pytest.mark.parametrize(("change", "complaint"), BAD_SCORES)
def test_malformed_scores_are_refused(
    study: Path, change: Callable[[pd.DataFrame], pd.DataFrame], complaint: str
) -> None:
    edit_scores(study / "flat_0", change)
    with pytest.raises(reporting.RunFolderError, match=complaint):
        reporting.load_runs([study])


BAD_CONFIGS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda config: config.pop("format"), r"flat_1/config\.yaml has format 1.*0\.1\.0"),
    (lambda config: config.pop("seed"), r"flat_1/config\.yaml: seed is None"),
    (lambda config: config.update(agent={}), r"neither `method` nor `agent\.name`"),
    (lambda config: config.pop("suite"), r"suite is missing"),
    (lambda config: config["suite"].pop("parameter"), r"suite\.parameter is missing"),
    (
        lambda config: config["suite"]["splits"].pop("train"),
        r"suite\.splits has no tasks under 'train'",
    ),
    (
        lambda config: config["suite"].update(reference_return="high"),
        r"suite\.reference_return is 'high'",
    ),
    (
        lambda config: config["suite"].update(name="maze"),
        r"of suite 'point_mass', .*flat_1 of suite 'maze'",
    ),
    (
        lambda config: config["suite"]["splits"]["train"][1].update(evaluation_seed=9),
        r"is not the same in .*flat_0 and .*flat_1: suite\.splits\.train\[1\]\.evaluation_seed",
    ),
]


@pytest.mark.parametrize(("change", "complaint"), BAD_CONFIGS)
def test_malformed_configurations_are_refused(
    study: Path, change: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    edit_config(study / "flat_1", change)
    with pytest.raises(reporting.RunFolderError, match=complaint):
        reporting.load_runs([study])


def test_a_reference_return_below_random_play_is_refused(study: Path) -> None:
    """It would turn the scores around: the better, the lower."""
    for path in study.iterdir():
        edit_config(path, lambda config: config["suite"].update(reference_return=-1))
    with pytest.raises(
        reporting.RunFolderError, match=r"not below the suite's reference_return -1: no score"
    ):
        reporting.load_runs([study])


BAD_FILES = [
    ("metrics.jsonl", '{"frames": 1}\n{"fra', r"metrics\.jsonl: line 2 is not JSON"),
    ("metrics.jsonl", f'{{"frames": 1{"0" * 400}}}', r"line 1: key 'frames' is .* not a finite"),
    ("metrics.jsonl", "[1]", r"metrics\.jsonl: line 1 is not an object"),
    ("timing.jsonl", '{"frames": 1}', r"timing\.jsonl: line 1: key 'seconds' is missing"),
    ("config.yaml", "a: [", r"config\.yaml: cannot be read"),
    ("config.yaml", "just text", r"config\.yaml: holds no mapping"),
    ("environment.json", "{", r"environment\.json: cannot be read"),
    ("environment.json", '{"parameters": 5}', r"json: parameters is 5, not a count by part"),
    ("environment.json", '{"parameters": {"total": "many"}}', r"parameters\.total is 'many', not"),
    ("environment.json", '{"parameters": {"total": NaN}}', r"parameters\.total is nan, not a who"),
    ("metrics.jsonl", '{"frames": 1, "a/b": "high"}', r"line 1: key 'a/b' is 'high', not a numb"),
    ("scores.csv", "", r"scores\.csv: no CSV table"),
    ("skill_usage.csv", "task,split,skill\n", r"skill_usage\.csv: column 'weight' is missing"),
    (
        "skill_usage.csv",
        "task,split,skill,weight\ntrain_0,train,0,-1\n",
        r"column 'weight', line 2: .* is negative",
    ),
    (
        "skill_usage.csv",
        "task,split,skill,weight\nx,train,0,1\n",
        r"skill_usage\.csv: column 'task', split 'train': 'x'",
    ),
]


@pytest.mark.parametrize(("name", "content", "complaint"), BAD_FILES)
def test_malformed_files_are_refused(study: Path, name: str, content: str, complaint: str) -> None:
    (study / "skills_0" / name).write_text(content)
    with pytest.raises(reporting.RunFolderError, match=complaint):
        reporting.load_runs([study])


def test_a_log_that_is_no_text_is_refused(study: Path) -> None:
    (study / "skills_0" / "metrics.jsonl").write_bytes(b"\xff\xfe\x81")
    with pytest.raises(reporting.RunFolderError, match=r"metrics\.jsonl: is not text"):
        reporting.load_runs([study])


def test_a_run_without_scores_is_left_out_and_named(study: Path) -> None:
    (study / "flat_2" / "scores.csv").unlink()
    runs = reporting.load_runs([study])
    assert [run.seed for run in runs.of("flat")] == [0, 1]
    assert runs.left_out == (study / "flat_2",)
    assert str(study / "flat_2") in reporting.left_out_note(runs)
    assert reporting.left_out_note(replace(runs, left_out=())) == ""


def test_nothing_to_report_is_refused(study: Path) -> None:
    for path in study.glob("*/scores.csv"):
        path.unlink()
    with pytest.raises(
        reporting.RunFolderError, match=r"flat_0/scores\.csv: no such file; evaluate the run first"
    ):
        reporting.load_runs([study])
    with pytest.raises(reporting.RunFolderError, match="nowhere: no run folder there"):
        reporting.load_runs([study / "nowhere"])
    with pytest.raises(reporting.RunFolderError, match="no run folder was given"):
        reporting.load_runs([])


def test_shuffled_episodes_of_one_run_only_are_refused(study: Path) -> None:
    (study / "skills_1" / "shuffled_scores.csv").unlink()
    with pytest.raises(
        reporting.RunFolderError,
        match=r"skills_1/shuffled_scores\.csv: nothing for split '.*', intervention '.*skills_0",
    ):
        reporting.load_runs([study])


def test_an_unknown_intervention_is_refused_with_the_known_ones(study: Path) -> None:
    path = study / "skills_0" / "shuffled_scores.csv"
    pd.read_csv(path).assign(intervention="noise").to_csv(path, index=False)
    with pytest.raises(
        reporting.RunFolderError,
        match=r"'noise' is none of \['high_level_action_shuffle', 'task_shuffle'\]",
    ):
        reporting.load_runs([study])


def test_the_same_seed_twice_is_refused(study: Path) -> None:
    write_trained(study / "copy", position_suite(), method="flat", seed=1)
    with pytest.raises(
        reporting.RunFolderError, match=r"copy and .*flat_1 are both method 'flat' with seed 1"
    ):
        reporting.load_runs([study])


def test_runs_of_one_method_that_were_trained_for_longer_are_refused(study: Path) -> None:
    for name in ("flat_0", "flat_1", "flat_2"):
        (study / name / "shuffled_scores.csv").unlink()
    edit_scores(study / "flat_1", lambda table: table.assign(frames="122000"))
    assert len(reporting.load_runs([study]).of("flat")) == 3, "a last rollout may end later"
    edit_scores(study / "flat_1", lambda table: table.assign(frames="180000"))
    with pytest.raises(
        reporting.RunFolderError, match=r"flat_0 was .* 120,000 frames, .*flat_1 of .* 180,000"
    ):
        reporting.load_runs([study])


def test_an_explicit_method_name_wins_over_the_agent(study: Path) -> None:
    edit_config(study / "flat_0", lambda config: config.update(method="flat_wide"))
    edit_scores(study / "flat_0", lambda table: table.assign(method="flat_wide"))
    (study / "flat_0" / "shuffled_scores.csv").unlink()
    assert read_run(study / "flat_0").method == "flat_wide"


def test_a_saved_suite_that_is_damaged_anywhere_is_refused_and_never_a_traceback() -> None:
    suite = position_suite()
    suite["splits"] = {name: tasks[:1] for name, tasks in list(suite["splits"].items())[:2]}
    refused = 0
    for _, change in damaged(suite):
        try:
            read_suite({"suite": change}, Path("config.yaml"))
        except reporting.RunFolderError:
            refused += 1
    assert refused > 100
