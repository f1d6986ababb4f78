"""docs/metrics.md: whole rows, known agents. `tests/hrl/run/test_load.py` compares it with runs."""

import re
from types import SimpleNamespace

from envs.vector.external import ExternalVectorEnv
from hrl.agents.registry import registered_agents
from tests.glossary import PAGE, WORKERS, matches, section, sections, unexplained, unlogged


def test_every_row_says_unit_and_meaning():
    rows = re.findall(r"^\| `.*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 100
    for row in rows:
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert len(cells) == 5, row
        assert all(cells[:3]), row


def test_every_agent_that_learns_is_there_and_no_other():
    learning = {name for name, entry in registered_agents().items() if entry.build_learner}
    assert {agent for found in sections() for agent in found.agents} == learning


def test_no_metric_stands_twice_for_an_agent():
    for agent in registered_agents():
        metrics = [name for found in sections() if found.logs(agent) for name in found.metrics]
        assert len(set(metrics)) == len(metrics), agent


def test_external_environments_count_what_the_glossary_says():
    env = SimpleNamespace(_pool=SimpleNamespace(take_deaths=lambda: 0))
    assert set(ExternalVectorEnv.take_counts(env)) == set(section(WORKERS).metrics)


def test_words_in_capitals_stand_for_names():
    assert matches("train/return/TASK", "train/return/north_east")
    assert not matches("train/return/TASK", "train/return")
    assert not matches("loss/total", "loss/totals")
    assert unexplained({"a/b", "a/c"}, ["a/b"]) == ["a/c"]
    assert unlogged({"a/b"}, ["a/b", "a/NAME/c"]) == ["a/NAME/c"]
