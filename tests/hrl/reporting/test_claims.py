"""Tests of how claims are worded, and of what controls and caveats stand beside them."""

import json
from pathlib import Path

import pytest

from hrl import reporting
from hrl.reporting.claims import claims, claims_section
from hrl.reporting.controls import read_controls, write_controls
from hrl.reporting.page import Bullets, Table
from hrl.reporting.study import Study
from tests.hrl.reporting.scored import scored_study
from tests.hrl.synthetic_runs import position_suite, write_trained

FIVE = [0.80, 0.82, 0.79, 0.83, 0.81]
LOW = [0.30, 0.32, 0.29, 0.33, 0.31]
SPREAD = [0.1, 0.9, 0.5, 0.2, 1.0]


def test_a_higher_mean_alone_claims_nothing(tmp_path: Path) -> None:
    study = scored_study(tmp_path, {"flat": SPREAD, "skills": FIVE})
    means = study.table.groupby("method")["score"].mean()
    assert means["skills"] > means["flat"]
    assert claims(study, "flat", "skills") == [
        "flat and skills are indistinguishable on train at 5 seeds."
    ]


def test_a_claim_without_controls_says_so(tmp_path: Path) -> None:
    study = scored_study(tmp_path, {"flat": LOW, "skills": FIVE})
    assert claims(study, "flat", "skills") == [
        "skills scores higher than flat on train at 5 seeds.",
        "No control stands beside this claim: it does not say where a difference is from.",
    ]


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Skills beat flat and one control; another does as well, a third has another budget."""
    return scored_study(
        tmp_path_factory.mktemp("controlled"),
        {"flat": LOW, "skills": FIVE, "k1": FIVE[:3], "small": LOW[:3], "short": LOW[:3]},
        controls={"k1": "without temporal abstraction", "short": "", "small": "with fewer weights"},
        frames={"short": 60_000},
    )


def test_controls_say_what_they_take_from_a_claim(controlled: Study) -> None:
    assert claims(controlled, "flat", "skills") == [
        "skills scores higher than flat on train at 5 seeds.",
        "On train, skills does not score higher than the control k1 (without temporal "
        "abstraction): whatever the two have in common may be the reason.",
        "The control short says nothing here: it was trained for another number of frames.",
        "skills also scores higher than small (with fewer weights) on train.",
    ]


def test_controls_stand_in_the_table_of_the_claim(controlled: Study) -> None:
    section = claims_section(controlled)
    assert [part.sentences for part in section.parts if isinstance(part, Bullets)] == [
        claims(controlled, "flat", "skills")
    ]
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown[0][:2] == ["flat", "skills"]
    assert shown[0][2].startswith("lower -0.5")
    against = {(row[0], row[1]): (row[2].split()[0], row[3]) for row in shown[1:]}
    assert against["skills", "k1"] == ("indistinguishable", "without temporal abstraction")
    assert against["skills", "small"] == ("higher", "with fewer weights")
    assert against["skills", "short"] == ("unequal", "")
    assert len(against) == 6


def test_too_few_seeds_missing_ones_and_revisions_stand_beside_the_claim(tmp_path: Path) -> None:
    study = scored_study(tmp_path, {"flat": LOW, "skills": FIVE[:2]})
    path = tmp_path / "flat_0" / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "revision": "f" * 40}))
    runs = reporting.load_runs([tmp_path])
    study = reporting.study.study_of(runs)
    found = claims(study, "flat", "skills")
    assert found[0].endswith("on train at 5 and 2 seeds (too few: intervals under-cover).")
    assert found[-2:] == [
        "skills has no seeds 2, 3, 4.",
        "Their runs come from 2 code revisions; see “Runs”.",
    ]


def test_one_run_claims_nothing(tmp_path: Path) -> None:
    study = scored_study(tmp_path, {"flat": LOW[:1], "skills": FIVE[:1]})
    assert claims(study, "flat", "skills") == [
        "Nothing is claimed on train: one run of a method has no interval."
    ]


def test_controls_are_read_from_the_study_that_runs_lie_in(tmp_path: Path) -> None:
    suite = position_suite()
    for study, methods, controls in (
        ("one", ["flat"], {"k1": "note", "held": "more"}),
        ("two", ["held"], {}),
    ):
        for method in (*methods, *controls):
            write_trained(
                tmp_path / study / "point_mass" / method / "seed_0",
                suite,
                method=f"{method}_{study}" if study == "two" else method,
                episodes=1,
            )
        write_controls(tmp_path / study, [*methods, *controls], controls)
    runs = [path.parent for path in tmp_path.glob("one/**/config.yaml")]
    assert read_controls(runs) == {"k1": "note", "held": "more"}
    both = [path.parent for path in tmp_path.glob("**/config.yaml")]
    assert read_controls(both) == {"k1": "note"}, "held is a method of the other study"
    assert read_controls([tmp_path]) == {}


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"study": {"methods": {}, "controls": {"a": 1}}}']
)
def test_a_damaged_record_of_a_study_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(reporting.RunFolderError, match=r"study\.json: "):
        read_controls([tmp_path / "flat" / "seed_0"])
