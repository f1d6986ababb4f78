"""Tests of what differs between the methods' configurations."""

from pathlib import Path

from hrl import reporting
from hrl.reporting.differences import config_differences, disagreements, flattened, parameter_counts
from tests.hrl.reporting.editing import edit_config


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
