"""Configurations: what is refused, and that the message names the key and the choices."""

import math
from dataclasses import is_dataclass

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase

from envs.resources import add_config_dir
from hrl.agents.registry import registered_agents
from hrl.agents.skills import SkillsConfig
from hrl.config import ConfigError, choices, from_saved, load
from hrl.config_field import field_infos


def test_defaults_are_typed_and_plain():
    config, plain = load(["agent=skills", "agent.skill_duration=4", "seed=3"])
    assert isinstance(config.agent, SkillsConfig)
    assert config.agent.skill_duration == 4
    assert plain["agent"]["skill_duration"] == 4
    assert plain["folder"] == f"runs/{plain['suite']['name']}/skills/seed_3"


@pytest.mark.parametrize("agent", sorted(registered_agents()))
@pytest.mark.parametrize("size", choices("size"))
def test_every_agent_composes_with_every_size_and_survives_its_file(agent, size):
    config, plain = load([f"agent={agent}", f"size={size}"])
    assert config.agent.name == agent
    assert from_saved(yaml.safe_load(yaml.safe_dump(plain))) == (config, plain)


def test_an_agent_changes_defaults_of_the_run_and_a_size_changes_them_again():
    assert load(["agent=ppo"])[0].num_envs == 64
    config = load(["agent=dreamer"])[0]
    assert (config.num_envs, config.frame_stack, config.agent.imag_last) == (16, 1, 4)
    assert load(["agent=dreamer", "size=debug"])[0].num_envs == 8


def test_the_default_folder_has_the_methods_name():
    """A changed setting under a new method's name does not meet the folder of another run."""
    config, plain = load(["agent=ppo", "suite=debug", "method=ppo_wide", "seed=3"])
    assert config.folder == plain["folder"] == "runs/debug/ppo_wide/seed_3"
    assert load(["agent=ppo", "suite=debug"])[1]["method"] == "ppo"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.skill_durationn=3", r"skill_durationn.*valid keys of agent: .*skill_duration"),
        ("agent.skill_duration=often", r"agent\.skill_duration: Value 'often'"),
        ("framess=3", r"framess.*valid keys of a run: .*frames"),
        (
            "network.encoder.kernel=3",
            r"kernel.*valid keys of network\.encoder: channels, features, kind, patch, weights",
        ),
        ("agent=sac", r"agent/sac.*Available options.*skills"),
        ("suite=moon_walk", r"suite/moon_walk.*Available options.*point_mass"),
        ("seed=1.5", r"seed: Value '1\.5'"),
        ("network.encoder=3", r"network\.encoder is 3; it has keys of its own: channels, feat"),
        ("seed=-1", r"seed is -1; it must be at least 0 and at most 9,223"),
        ("agent.num_skills=0", r"agent\.num_skills is 0"),
        ("agent.encoder_gradient=all", r"agent\.encoder_gradient.*both.*manager.*skills.*none"),
        ("precision=float16", r"precision is 'float16'; choose from auto, float32, bfloat16"),
        (
            "tracking.wandb=maybe",
            r"tracking\.wandb is 'maybe'; choose from online, offline, disabled",
        ),
        ("evaluation.episodes=0", r"evaluation\.episodes is 0"),
        ("network.hidden=[32,0]", r"network\.hidden is \[32, 0\]; every number must be at least 1"),
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
        ("agent=null", r"agent is 'null'; choose from director, dreamer, ppo"),
        ("suite=", r"suite is ''; choose from .*point_mass"),
        ("~agent", r"agent is None; choose from director, dreamer, ppo"),
        ("agent.name=ppo", r"agent\.name is 'ppo'; the agent is 'skills'; choose .* agent=NAME"),
        ("agent.name=dqn", r"agent\.name is 'dqn'; choose from director, dreamer, ppo"),
        ("+new.key=1", r"unknown key new; valid keys of a run: agent, checkpoint_every"),
        ("+agent.new=1", r"unknown key agent\.new; valid keys of agent: clip, cuda_graph"),
        (
            "+tracking.project=x",
            r"unknown key tracking\.project; valid keys of tracking: group, progress",
        ),
        ("device=hpu", r"device is 'hpu'; choose from auto, cpu, cuda, or a GPU .* cuda:0"),
        ("agent.skill_duration=1000000000", r"skill_duration is 1000000000; .* at most 10,000"),
        ("agent.learning_rate=nan", r"agent\.learning_rate is nan; it must be a finite number"),
        ("agent.temperature=inf", r"agent\.temperature is inf; it must be a finite number"),
        ("evaluation.seed=-1", r"evaluation\.seed is -1; it must be at least 0"),
        ("evaluation.seed=9223372036854775808", r"seed is 9223372036854775808; .* at most"),
        ("method=../x", r"method is '\.\./x'; a name has letters, digits"),
        ("method=", r"method is ''; a name has letters, digits"),
        (
            "method=random",
            "method is 'random'; reports take it for the reference scores of agent=random",
        ),
        ("agent=1", r"agent is '1'; choose from director, dreamer, ppo"),
        ("agent=true", r"agent is 'true'; choose from director, dreamer, ppo"),
        ("agent={}", r"agent is '\{\}'; choose from director, dreamer, ppo"),
        ("suite=nan", r"suite is 'nan'; choose from .*point_mass"),
        ("size=[]", r"size is '\[\]'; choose from .*debug"),
        ("experiment=0.5", r"experiment is '0\.5'; choose from .*leave it out for none"),
        ("+=1", r"'\+=1': it has no key; give KEY=VALUE"),
        ("~network", r"~network: a run has every key; give KEY=VALUE"),
        ("~seed", r"~seed: a run has every key"),
        ("folder=", r"folder is ''; it must name a folder"),
        (f"seed=1{'0' * 400}", r"seed is 10+; it must be at least 0 and at most"),
        ("tracking.group=${nothing}", r"tracking\.group: Interpolation key 'nothing' not found"),
    ],
)
def test_mistakes_stop_with_the_key_and_the_choices(override, message):
    with pytest.raises(ConfigError, match=f"(?s){message}") as caught:
        load(["agent=skills", override])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.tau=0", r"agent\.tau is 0\.0; it must be above 0 and at most 1"),
        ("agent.tau=1.5", r"agent\.tau is 1\.5; it must be above 0 and at most 1"),
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.skill_duration=3", r"agent\.skill_duration is 3; it must divide horizon.* 16"),
        ("agent.manager.layers=0", r"agent\.manager\.layers is 0; it must be at least 1"),
        ("agent.worker.std_low=2", r"agent\.worker\.std_low is 2\.0; it must be below std_high"),
        ("agent.conditioning.preset=all", r"conditioning\.preset is 'all'; choose from heads"),
        ("agent.world_model_loss.free_nats=nan", r"agent\.world_model_loss\.free_nats is nan"),
        ("agent.goal_autoencoder.divergence_target=1", r"divergence_target is 1\.0; .* below 1"),
        ("network.world_model.blocks=7", r"network\.world_model\.blocks is 7; it must divide"),
        ("network.world_model.kernel=4", r"network\.world_model\.kernel is 4; it must be odd"),
        ("network.world_model.classes=300", r"classes is 300; .* at least 2 and at most 256"),
    ],
)
def test_mistakes_in_nested_nodes_name_the_whole_path(override, message):
    with pytest.raises(ConfigError, match=message):
        load(["agent=director", override])


def test_every_key_declares_its_meaning():
    for name in registered_agents():
        for path, config_class in nodes(load([f"agent={name}"])[0]):
            missing = [key for key, info in field_infos(config_class).items() if not info.help]
            assert not missing, (path, missing)


def nodes(config, path="run"):
    """Every node of a configuration, with its path."""
    yield path, type(config)
    for key, value in vars(config).items():
        if is_dataclass(value):
            yield from nodes(value, f"{path}.{key}")


def test_a_saved_configuration_of_an_unknown_agent_is_refused():
    plain = load([])[1]
    with pytest.raises(ConfigError, match=r"agent\.name is 'dqn'; choose from .*ppo, .*skills"):
        from_saved({**plain, "agent": {"name": "dqn"}})


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"folder": "${oc.env:HOME}"}, "folder"),
        ({"tracking": {"group": "of ${oc.env:USER}"}}, r"tracking\.group"),
        ({"imports": ["${oc.env:HOME}"]}, "imports"),
    ],
)
def test_a_saved_configuration_reads_no_variables_of_its_reader(changed, key):
    _, plain = load(["agent=ppo", "suite=debug"])
    with pytest.raises(ConfigError, match=rf"{key} is '.*oc\.env.*'; a saved configuration holds"):
        from_saved({**plain, **changed})


@pytest.mark.parametrize("where", ["train", "far"])
def test_a_saved_configuration_imports_no_module_that_an_id_names(where, tmp_path, monkeypatch):
    """`load_run`, and so `evaluate` and `play`, read saved configurations by `from_saved`."""
    (tmp_path / "stranger.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, plain = load(["agent=ppo", "suite=gym/tests.envs.external_fakes:Limited-v0"])
    (task,) = plain["suite"]["splits"]["train"]
    strange = {**task, "name": "strange", "evaluation_seed": 1}
    strange["parameters"] = {**task["parameters"], "id": "stranger:Env-v0"}
    splits = {"train": [task], where: [strange, *([task] if where == "train" else [])]}
    with pytest.raises(ConfigError, match=r"the run uses stranger, .* add --import=stranger"):
        from_saved({**plain, "suite": {**plain["suite"], "splits": splits}})
    from_saved(plain)  # this process has imported the module already


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"agent": ["ppo"]}, "agent"),
        ({"suite": "debug"}, "a suite must be a mapping"),
        ({"imports": 5}, "imports is 5; it must be a list of names"),
        ({"imports": "os"}, "imports is 'os'; it must be a list of names"),
        ({"frames": math.nan}, "frames: Value 'nan' of type 'float' could not be converted"),
        ({"frames": 10**400}, "frames is 10+; it must be at least 1 and at most"),
        ({"network": None}, "network is None; it has keys of its own: encoder"),
        ({"network": {"encoder": 3}}, r"network\.encoder is 3; it has keys of its own"),
        ({"finetune": "all"}, "finetune is 'all'; it has keys of its own: source"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_saved_configuration_that_was_edited_wrongly_is_refused(changed, message):
    _, plain = load(["agent=ppo", "suite=debug"])
    with pytest.raises(ConfigError, match=message) as caught:
        from_saved({**plain, **changed})
    assert len(str(caught.value).splitlines()) == 1


def test_the_id_of_an_environment_may_stand_in_quotes():
    quoted = load(["agent=ppo", "suite='gym/CartPole-v1'"])
    assert quoted.plain == load(["agent=ppo", "suite=gym/CartPole-v1"]).plain


def test_runs_of_an_experiment_are_one_group():
    assert load(["agent=ppo"]).config.tracking.group == ""
    assert load(["agent=ppo", "experiment=demo"]).config.tracking.group == "demo"
    own = load(["agent=ppo", "experiment=demo", "tracking.group=mine"])
    assert own.config.tracking.group == "mine"


@pytest.mark.parametrize("name", ["größe", "lr=0.1,wide", "a b"])
def test_the_name_of_an_experiment_may_hold_any_character(name, tmp_path, monkeypatch):
    monkeypatch.setattr("envs.resources._added", [])
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\nseed: 7\n")
    add_config_dir(tmp_path)
    config = load(["agent=ppo", f'experiment="{name}"']).config
    assert (config.seed, config.tracking.group) == (7, name)


def test_a_caller_inside_hydra_keeps_its_state(tmp_path):
    """As `@hydra.main` leaves it while the user's function runs."""
    (tmp_path / "mine.yaml").write_text("learning_rate: 0.5")
    with initialize_config_dir(str(tmp_path), job_name="theirs", version_base="1.2"):
        caller, hydra = GlobalHydra.instance(), GlobalHydra.instance().hydra
        assert load(["agent=ppo", "seed=3"])[0].seed == 3
        with pytest.raises(ConfigError, match="seed"):
            load(["seed=often"])
        assert GlobalHydra.instance() is caller
        assert caller.hydra is hydra
        assert str(VersionBase.instance().getbase()) == "1.2"
        mine = compose("mine", return_hydra_config=True)
        assert (mine.learning_rate, mine.hydra.job.name) == (0.5, "theirs")
    before = GlobalHydra.instance().is_initialized()
    load(["agent=ppo"])
    assert GlobalHydra.instance().is_initialized() is before is False
