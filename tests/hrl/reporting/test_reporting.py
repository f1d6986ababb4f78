"""Tests of how run folders are read, of what is refused, and of the summary's numbers."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hrl import reporting
from hrl.reporting import statistics
from hrl.reporting.curves import curve_source, method_curves, scores_of
from hrl.reporting.differences import config_differences, disagreements, flattened, parameter_counts
from hrl.reporting.runs import find_run_folders, read_run
from hrl.reporting.summary import interval_text, score_matrix, task_scores
from hrl.reporting.task_parameter import hull_vertices, parameter_spaces, signed_distance
from hrl.reporting.videos import fitting, latest_videos
from tests.hrl.synthetic_runs import position_suite, speed_suite, write_fixed, write_trained


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three flat runs, two with skills, and random play, on the point mass."""
    folder, suite = tmp_path_factory.mktemp("pristine"), position_suite()
    for seed in range(3):
        write_trained(folder / f"flat_{seed}", suite, method="flat", seed=seed, level=0.6)
    for seed in range(2):
        write_trained(
            folder / f"skills_{seed}",
            suite,
            method="skills",
            seed=seed,
            skills=4,
            agent={"skill_duration": 8},
        )
    write_fixed(folder / "random", suite)
    return folder


@pytest.fixture
def study(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "runs"))


def edit_scores(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Rewrite scores.csv."""
    change(pd.read_csv(folder / "scores.csv", dtype=str)).to_csv(folder / "scores.csv", index=False)


def edit_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite config.yaml."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


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


def test_summary_against_a_slow_loop(study: Path) -> None:
    summary = reporting.summarise(reporting.load_runs([study]))
    rows = {
        name: pd.read_csv(study / name / "scores.csv")
        for name in ("flat_0", "flat_1", "flat_2", "random")
    }
    rows = {name: table[table.split == "train"] for name, table in rows.items()}
    returns = np.array(
        [
            [rows[f"flat_{seed}"].query(f"task == 'train_{i}'")["return"].mean() for i in range(4)]
            for seed in range(3)
        ]
    )
    random = np.array(
        [rows["random"].query(f"task == 'train_{i}'")["return"].mean() for i in range(4)]
    )
    scores = np.sort(((returns - random) / (800 - random)).ravel())
    numbers = summary["methods"]["flat"]["train"]
    assert numbers["return_mean"] == pytest.approx(returns.mean())
    assert numbers["score_iqm"] == pytest.approx(scores[3:9].mean())
    assert (numbers["runs"], numbers["tasks"], numbers["episodes"]) == (3, 4, 48)
    low, high = numbers["ci95"]
    assert low is not None
    assert high is not None
    assert low < numbers["score_iqm"] < high
    assert summary["methods"]["random"]["train"]["score_iqm"] == pytest.approx(0)
    assert summary["methods"]["random"]["train"]["ci95"] == [None, None]


def test_summary_does_not_depend_on_the_order_of_rows_or_runs(study: Path) -> None:
    before = reporting.summarise(reporting.load_runs([study]))
    for folder in study.iterdir():
        edit_scores(folder, lambda table: table.sample(frac=1, random_state=3))
    after = reporting.summarise(reporting.load_runs(sorted(study.iterdir(), reverse=True)))
    assert json.dumps(after) == json.dumps(before)


def test_another_method_moves_no_interval(study: Path) -> None:
    before = reporting.summarise(reporting.load_runs([study]))
    write_trained(study / "another", position_suite(), method="another")
    after = reporting.summarise(reporting.load_runs([study]))
    assert after["methods"]["flat"] == before["methods"]["flat"]


def test_summary_table_has_a_line_per_split_and_method(study: Path) -> None:
    lines = reporting.summary_table(reporting.summarise(reporting.load_runs([study]))).splitlines()
    assert lines[0].split() == [
        "split",
        "method",
        "return",
        "score",
        "IQM",
        "95",
        "%",
        "CI",
        "episodes",
        "runs",
    ]
    assert len(lines) == 2 + 4 * 3
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[:2] == ["train", "flat"]
    assert lines[4].split()[-3:] == ["-", "16", "1"]


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


def test_without_random_returns_both_ways_are_named(study: Path, tmp_path: Path) -> None:
    with pytest.raises(reporting.RunFolderError, match=r"method 'random'.*scores/point_mass\.csv"):
        reporting.load_runs([study / "flat_*"], reference_scores=tmp_path / "scores")


def test_tasks_are_matched_by_name_and_not_by_position(study: Path) -> None:
    runs = reporting.load_runs([study])
    matrix = score_matrix(task_scores(runs), "flat", "train")
    assert matrix.shape == (3, 4)
    one = (
        task_scores(runs)
        .query("method == 'flat' and seed == 1 and task == 'train_2'")["score"]
        .item()
    )
    assert matrix[1, 2] == one


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


BAD_FILES = [
    ("metrics.jsonl", '{"frames": 1}\n{"fra', r"metrics\.jsonl: line 2 is not JSON"),
    ("metrics.jsonl", "[1]", r"metrics\.jsonl: line 1 is not an object"),
    ("timing.jsonl", '{"frames": 1}', r"timing\.jsonl: line 1: key 'seconds' is missing"),
    ("config.yaml", "a: [", r"config\.yaml: cannot be read"),
    ("config.yaml", "just text", r"config\.yaml: holds no mapping"),
    ("environment.json", "{", r"environment\.json: cannot be read"),
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


def test_a_naive_mean_over_the_scores_is_the_reported_return(study: Path) -> None:
    runs = reporting.load_runs([study])
    naive = runs.scores.query("method == 'skills' and split == 'train'")["return"].mean()
    summary = reporting.summarise(runs)["methods"]["skills"]["train"]
    assert naive == pytest.approx(summary["return_mean"])
    assert set(runs.shuffled["intervention"]) == {"high_level_action_shuffle", "task_shuffle"}


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


def varied_suite() -> dict[str, Any]:
    """The position suite with a split that changes the mass of one training task."""
    suite = position_suite()
    task = suite["splits"]["train"][1]
    suite["splits"]["dynamics_mild"] = [
        {**task, "name": f"mass_{mass:g}", "dynamics": {"mass": mass}} for mass in (0.5, 2.0)
    ]
    return suite


def test_splits_that_vary_one_training_task_stand_beside_its_score(tmp_path: Path) -> None:
    write_trained(tmp_path / "flat", varied_suite(), method="flat")
    write_fixed(tmp_path / "random", varied_suite())
    runs = reporting.load_runs([tmp_path])
    assert runs.suite.varied_tasks("dynamics_mild") == ["train_1"]
    assert runs.suite.varied_tasks("interpolation") == runs.suite.varied_tasks("train") == []
    summary = reporting.summarise(runs)
    training = summary["methods"]["flat"]["dynamics_mild"]["training"]
    one = task_scores(runs).query("method == 'flat' and split == 'train' and task == 'train_1'")
    assert training == {
        "tasks": ["train_1"],
        "return_mean": pytest.approx(one["return"].item()),
        "score_mean": pytest.approx(one["score"].item()),
    }
    assert summary["methods"]["flat"]["interpolation"]["training"] is None
    (line,) = [
        line
        for line in reporting.summary_table(summary).splitlines()
        if line.startswith("dynamics_mild") and "flat" in line
    ]
    assert line.split()[3] == f"{one['return'].item():.1f}"


def test_no_score_is_written_as_minus_zero() -> None:
    assert interval_text([-0.001, 0.001]) == "[0.00, 0.00]"


def test_the_same_seed_twice_is_refused(study: Path) -> None:
    write_trained(study / "copy", position_suite(), method="flat", seed=1)
    with pytest.raises(
        reporting.RunFolderError, match=r"copy and .*flat_1 are both method 'flat' with seed 1"
    ):
        reporting.load_runs([study])


def test_an_explicit_method_name_wins_over_the_agent(study: Path) -> None:
    edit_config(study / "flat_0", lambda config: config.update(method="flat_wide"))
    edit_scores(study / "flat_0", lambda table: table.assign(method="flat_wide"))
    (study / "flat_0" / "shuffled_scores.csv").unlink()
    assert read_run(study / "flat_0").method == "flat_wide"


def test_differences_between_methods(study: Path) -> None:
    edit_config(study / "skills_0", lambda config: config["agent"].update(learning_rate=1e-4))
    edit_config(study / "skills_1", lambda config: config["agent"].update(learning_rate=1e-4))
    rows = config_differences(reporting.load_runs([study]), ["flat", "skills"])
    assert {row.key: dict(row.values) for row in rows} == {
        "agent.name": {"flat": "flat", "skills": "skills"},
        "agent.learning_rate": {"flat": "0.0003", "skills": "0.0001"},
        "agent.skill_duration": {"flat": "-", "skills": "8"},
    }
    assert [row.shared for row in rows] == [True, True, False]


def test_runs_of_one_method_that_disagree_are_listed(study: Path) -> None:
    assert disagreements(reporting.load_runs([study])) == []
    edit_config(study / "flat_2", lambda config: config["agent"].update(learning_rate=1.0))
    runs = reporting.load_runs([study])
    (found,) = disagreements(runs)
    assert (found.method, found.key, dict(found.values)) == (
        "flat",
        "agent.learning_rate",
        {0: "0.0003", 1: "0.0003", 2: "1.0"},
    )
    rows = {row.key: row.values for row in config_differences(runs, ["flat", "skills"])}
    assert rows["agent.learning_rate"] == {"flat": "0.0003 / 1.0", "skills": "0.0003"}


def test_flattened_keys_and_parameter_counts(study: Path) -> None:
    assert flattened({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None}) == {
        "a.b": "1",
        "a.c": "{}",
        "d": "[1, 2]",
        "e": "null",
    }
    counts = parameter_counts(reporting.load_runs([study]), ["flat", "skills", "random"])
    assert counts == {
        "total": {"flat": 1_200_000, "skills": 1_560_000},
        "encoder": {"flat": 800_000, "skills": 800_000},
    }


def test_distance_from_the_hull_of_a_square() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    points = np.array([[0.5, 0.5], [0.5, 0.9], [1.0, 0.5], [2.0, 0.5], [4.0, 5.0]])
    np.testing.assert_allclose(
        signed_distance(points, square), [-0.5, -0.1, 0.0, 1.0, 5.0], atol=1e-12
    )
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(
        signed_distance(points @ turn, square @ turn), signed_distance(points, square), atol=1e-12
    )
    assert len(hull_vertices(square)) == 4


def test_a_hull_without_area_has_no_inside() -> None:
    line = np.array([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(
        signed_distance(np.array([[1.0, 1.0], [3.0, 3.0], [1.0, 0.0]]), line), [0, 2**0.5, 0.5**0.5]
    )
    np.testing.assert_allclose(signed_distance(np.array([[3.0, 4.0]]), np.zeros((1, 2))), [5.0])


def test_parameter_spaces_hold_tasks_that_change_nothing_else(tmp_path: Path) -> None:
    suite = read_run(write_fixed(tmp_path / "run", speed_suite())).suite
    (space,) = parameter_spaces(suite)
    assert (space.family, space.dimension) == ("walker_speed", 1)
    assert sorted(space.train.ravel()) == [0, 1, 2, 4, 6]
    assert {split for split, _ in space.values} == {
        "train",
        "interpolation",
        "extrapolation_far",
        "novel",
    }


def test_curves_are_interpolated_to_what_all_runs_cover(study: Path) -> None:
    for seed, frames in ((0, (0, 100)), (1, (50, 100)), (2, (0, 200))):
        lines = [
            {"frames": frame, **{f"train/return/train_{i}": float(frame + i) for i in range(4)}}
            for frame in frames
        ]
        (study / f"flat_{seed}" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        timing = [{"frames": 200, "seconds": 20.0, "frames_per_second": 10.0}]
        (study / f"flat_{seed}" / "timing.jsonl").write_text("\n".join(map(json.dumps, timing)))
    runs = reporting.load_runs([study])
    assert curve_source(runs) == "train"
    curves = method_curves(runs, "flat", "train", "train")
    assert curves is not None
    assert curves.x.tolist() == [50, 100]
    assert curves.returns.shape == (2, 3, 4)
    np.testing.assert_allclose(curves.returns[0], np.tile([50.0, 51.0, 52.0, 53.0], (3, 1)))
    timed = method_curves(runs, "flat", "train", "train", seconds=True)
    assert timed is not None
    np.testing.assert_allclose(timed.x, [5, 10])
    scores = scores_of(curves, runs, "train")
    random = [runs.random_returns["train", f"train_{i}"] for i in range(4)]
    np.testing.assert_allclose(scores, statistics.normalised_score(curves.returns, random, 800))


def test_greedy_evaluations_are_preferred_for_curves(study: Path) -> None:
    runs = reporting.load_runs([study])
    assert curve_source(runs) == "eval"
    assert method_curves(runs, "random", "train", "eval") is None


def test_the_latest_video_of_each_method_and_task_is_taken_whole_tasks_at_a_time(
    study: Path,
) -> None:
    for method, size in (("flat_1", 10), ("skills_0", 30)):
        (study / method / "videos").mkdir()
        for name in ("000000100_train_1", "000000200_train_1", "000000100_train_0", "odd"):
            (study / method / "videos" / f"{name}.mp4").write_bytes(b"x" * size)
    videos = latest_videos(reporting.load_runs([study]))
    assert [(video.task, video.method, video.frames) for video in videos] == [
        ("train_0", "flat", 100),
        ("train_0", "skills", 100),
        ("train_1", "flat", 200),
        ("train_1", "skills", 200),
        ("odd", "flat", None),
        ("odd", "skills", None),
    ]
    embedded, left = fitting(videos, room=100)
    assert {video.task for video in embedded} == {"train_0", "train_1"}
    assert {video.task for video in left} == {"odd"}
