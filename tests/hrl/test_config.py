"""Configurations: what is refused, and that the message names the key and the choices."""

import pytest
import yaml

from hrl.agents.skills import SkillsConfig
from hrl.config import AGENTS, CONFIG_DIR, ConfigError, choices, from_saved, load


def test_defaults_are_typed_and_plain():
    config, plain = load(["agent=skills", "agent.skill_duration=4", "seed=3"])
    assert isinstance(config.agent, SkillsConfig)
    assert config.agent.skill_duration == 4
    assert plain["agent"]["skill_duration"] == 4
    assert plain["folder"] == f"runs/{plain['suite']['name']}/skills/seed_3"


@pytest.mark.parametrize("agent", sorted(AGENTS))
@pytest.mark.parametrize("size", choices("size"))
def test_every_agent_composes_with_every_size_and_survives_its_file(agent, size):
    config, plain = load([f"agent={agent}", f"size={size}"])
    assert config.agent.name == agent
    assert from_saved(yaml.safe_load(yaml.safe_dump(plain))) == (config, plain)


def test_agents_have_a_file_each():
    assert choices("agent") == sorted(AGENTS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.skill_durationn=3", r"skill_durationn.*valid keys of agent: .*skill_duration"),
        ("agent.skill_duration=often", r"'often'.*agent\.skill_duration"),
        ("framess=3", r"framess.*valid keys of a run: .*frames"),
        (
            "network.encoder.kernel=3",
            r"kernel.*valid keys of network\.encoder: channels, features, patch",
        ),
        ("agent=sac", r"agent/sac.*Available options.*skills"),
        ("suite=moon_walk", r"suite/moon_walk.*Available options.*point_mass"),
        ("seed=1.5", r"'1\.5'.*seed"),
        ("seed=-1", r"seed is -1; it must be at least 0"),
        ("agent.num_skills=0", r"agent\.num_skills is 0"),
        ("agent.encoder_gradient=all", r"agent\.encoder_gradient.*both.*manager.*skills.*none"),
        ("precision=float16", r"precision is 'float16'; choose from auto, float32, bfloat16"),
        (
            "tracking.wandb=maybe",
            r"tracking\.wandb is 'maybe'; choose from online, offline, disabled",
        ),
        ("evaluation.episodes=0", r"evaluation\.episodes is 0"),
        ("network.hidden=[32,0]", r"network\.hidden is \[32, 0\]; every size must be at least 1"),
        ("network.encoder.patch=0", r"network\.encoder\.patch is 0; it must be at least 1"),
        ("network.encoder.features=0", r"network\.encoder\.features is 0; it must be at least 1"),
        (
            "network.encoder.channels=[]",
            r"network\.encoder\.channels is \[\]; give at least one size",
        ),
        ("network.encoder.channels=[8,-1]", r"network\.encoder\.channels is \[8, -1\]"),
        ("suite.action_repeat=0", r"action_repeat"),
        ("+suite.gravity=9", r"gravity"),
        ("agent hold", r"agent hold"),
    ],
)
def test_mistakes_stop_with_the_key_and_the_choices(override, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load(["agent=skills", override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.tau=0", r"agent\.tau is 0\.0; it must lie in \(0, 1\]"),
        ("agent.tau=1.5", r"agent\.tau is 1\.5; it must lie in \(0, 1\]"),
        ("agent.tau=nan", r"agent\.tau is nan"),
        ("agent.learning_starts=-1", r"agent\.learning_starts is -1; it must be at least 0"),
        ("agent.buffer_size=0", r"agent\.buffer_size is 0"),
        ("agent.learning_rate=nan", r"agent\.learning_rate is nan"),
    ],
)
def test_mistakes_in_soft_actor_critic_name_their_key(override, message):
    with pytest.raises(ConfigError, match=message):
        load(["agent=sb3_sac", override])
    assert load(["agent=sb3_sac", "agent.tau=1.0", "agent.learning_starts=0"])[0].agent.tau == 1.0


def test_a_saved_configuration_of_an_unknown_agent_is_refused():
    plain = load([])[1]
    with pytest.raises(ConfigError, match=r"agent\.name is 'dqn'; choose from ppo, skills"):
        from_saved({**plain, "agent": {"name": "dqn"}})


def test_configs_hold_no_copies():
    """Agent files name their schema and say what differs; defaults live in the dataclasses
    alone."""
    for path in (CONFIG_DIR / "agent").glob("*.yaml"):
        own = yaml.safe_load(path.read_text())
        assert own["defaults"] in (
            [f"/schema/agent/{path.stem}@{place}", "_self_"] for place in ("_here_", "agent")
        )
