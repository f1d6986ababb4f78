"""Tests of the warnings at the top of the report."""

import json
from pathlib import Path

from hrl import reporting
from hrl.reporting.cautions import cautions
from hrl.reporting.study import study_of
from tests.hrl.reporting.editing import change_configs
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_trained


def test_cautions_name_what_stands_against_the_comparison(tmp_path: Path) -> None:
    suite = position_suite()
    write_trained(tmp_path / "flat", suite, method="flat", frames=60_000)
    write_trained(tmp_path / "skills_0", suite, method="skills", skills=4)
    write_trained(tmp_path / "skills_1", suite, method="skills", skills=4, seed=1)
    write_fixed(tmp_path / "random", suite)
    change_configs(tmp_path, "skills_1", lambda config: config["agent"].update(learning_rate=1.0))
    environment = json.loads((tmp_path / "flat" / "environment.json").read_text())
    (tmp_path / "flat" / "environment.json").write_text(
        json.dumps({**environment, "revision": "f", "dirty": True})
    )
    found = cautions(study_of(reporting.load_runs([tmp_path])))
    for expected in (
        "flat: 1 run (no interval); skills: 2 runs",
        "(flat: 60,000; skills: 120,000)",
        "agent.learning_rate (skills)",
        "(flat 1,200,000, skills 1,560,000)",
        "2 code revisions (f + changes: flat 0; 0123456789ab: skills 0 1)",
        "flat lacks seed 1",
        "1 of 3 trained runs come from code with uncommitted changes",
    ):
        assert sum(expected in sentence for sentence in found) == 1, expected
