"""KEY=VALUE arguments that are no single run are refused with what to write instead."""

import shlex

import pytest

from hrl.overrides import (
    OverrideError,
    as_text,
    check_overrides,
    parse_override,
    refuse_multirun,
)


@pytest.mark.parametrize(
    "value",
    [
        "runs/größe",
        "runs/lr=0.1",
        "it's",
        'a "quoted" name',
        "a(b)",
        "lr[1]",
        "back\\slash=",
        "end=\\",
        '\\"',
    ],
)
def test_the_advised_quoting_works(value):
    with pytest.raises(OverrideError, match="quote the value: ") as caught:
        check_overrides([f"folder={value}"])
    advised = shlex.split(str(caught.value).partition("quote the value: ")[2])
    assert len(advised) == 1, "one argument for the shell"
    check_overrides(advised)
    assert parse_override(advised[0]).value() == value


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("[agent=ppo]", ["agent=ppo"]),
        ("[agent=ppo, a.b=c=d]", ["agent=ppo", "a.b=c=d"]),
        ("['agent=ppo',a=b]", ["agent=ppo", "a=b"]),
        ("[agent=ppo,a.b=[4,6],c=d]", ["agent=ppo", "a.b=[4,6]", "c=d"]),
        ("['a,b=c',d=e]", ["a,b=c", "d=e"]),
    ],
)
def test_the_advised_quoting_of_a_list_gives_its_texts(value, elements):
    with pytest.raises(OverrideError, match="quote each text of the list: ") as caught:
        parse_override(f"methods.x.overrides={value}")
    (advised,) = shlex.split(str(caught.value).partition("of the list: ")[2])
    assert [str(element) for element in parse_override(advised).value()] == elements


@pytest.mark.parametrize("value", ["ppo", "1e3", "1_0", "true", "null", "a b", "all-lr-1e-5"])
def test_text_stays_text_whatever_it_looks_like(value):
    assert parse_override(as_text(f"method={value}")).value() == value


def test_a_sweep_is_refused_with_the_loop():
    with pytest.raises(OverrideError) as caught:
        check_overrides(["agent=ppo", "seed=0,1", "agent.lr=1e-3,1e-4"])
    assert str(caught.value).endswith(
        "for seed in 0 1; do for agent_lr in 0.001 0.0001; do "
        "pixel-hrl train agent=ppo seed=$seed agent.lr=$agent_lr; done; done"
    )


@pytest.mark.parametrize("sweep", ["seed=range(0,2)", "seed=choice(0,1)"])
def test_every_kind_of_sweep_is_refused(sweep):
    with pytest.raises(OverrideError, match="for seed in 0 1; do"):
        check_overrides([sweep])


@pytest.mark.parametrize("key", ["hydra.run.dir=x", "hydra/launcher=x", "+hydra.x=1"])
def test_settings_of_hydra_are_refused(key):
    with pytest.raises(OverrideError, match="settings of Hydra itself"):
        check_overrides([key])


def test_multirun_is_refused_with_the_loop():
    with pytest.raises(OverrideError, match="--multirun is not supported: seed=0,1 asks for"):
        refuse_multirun(["seed=0,1"], "pixel-hrl train")


def test_a_list_is_no_sweep():
    overrides = ["network.hidden=[64,64]", "+new=1", "~old", "frames=1_000"]
    assert check_overrides(overrides) is None
