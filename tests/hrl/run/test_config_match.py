"""Two configurations are compared key by key, and only harmless keys may change."""

import pytest

from hrl.run.config_match import check_config_matches, differing_keys
from hrl.run.errors import ConfigMismatchError


def test_differing_keys_names_what_differs_and_only_that() -> None:
    saved = {
        "agent": {"name": "ppo", "rate": 3e-4, "layers": [1, 2], "gone": None},
        "frames": 100,
        "nan": float("nan"),
    }
    given = {
        "agent": {"name": "ppo", "rate": 1e-3, "layers": (1, 2)},
        "frames": 200,
        "nan": float("nan"),
        "new": {},
    }
    assert differing_keys(saved, given) == {
        "agent.gone": (None, "(absent)"),
        "agent.rate": (3e-4, 1e-3),
        "frames": (100, 200),
        "new": ("(absent)", {}),
    }
    assert differing_keys(saved, given, ignore=["frames", "agent", "new"]) == {}
    assert differing_keys({"a": {"bc": 1}}, {"a": {"bc": 2}}, ignore=["a.b"]) == {"a.bc": (1, 2)}
    assert differing_keys({"flag": True, "one": 1}, {"flag": 1, "one": 1.0}) == {"flag": (True, 1)}
    assert differing_keys(saved, saved) == {}


def test_a_mismatch_lists_each_key_with_both_values() -> None:
    error = ConfigMismatchError({"agent.rate": (3e-4, 1e-3), "seed": (0, 1)})
    assert "agent.rate: 0.0003 in the run, 0.001 given" in str(error)
    assert "seed: 0 in the run, 1 given" in str(error)
    assert error.differences["seed"] == (0, 1)


def test_what_a_continued_run_may_change():
    saved = {"seed": 0, "threads": 1, "checkpoint_every": 10, "evaluation": {"every": 5, "seed": 1}}
    given = {"seed": 0, "threads": 2, "checkpoint_every": 20, "evaluation": {"every": 0, "seed": 1}}
    check_config_matches(saved, given)
    with pytest.raises(ConfigMismatchError, match=r"evaluation\.seed: 1 in the run, 2 given"):
        check_config_matches(saved, {**given, "evaluation": {"every": 0, "seed": 2}})
