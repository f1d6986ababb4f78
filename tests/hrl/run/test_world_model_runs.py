"""The world-model pair as a user meets it: presets, refusals, memory, videos, the benchmark of
an update."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

from envs import Suite
from hrl.agents.director import Director
from hrl.agents.dreamer import Dreamer
from hrl.benchmarks import update as benchmark_update
from hrl.config import ConfigError, load
from hrl.data.replay_buffer import ReplayBuffer
from hrl.data.replay_collector import replay_columns
from hrl.evaluation import imagination_video
from hrl.evaluation.episodes import EvalConfig, evaluate
from hrl.evaluation.imagination_video import record_imagination
from hrl.run.build import agent_spec, run_shapes
from hrl.run.checkpoints import Checkpoints
from hrl.run.config_match import MAY_CHANGE, differing_keys
from hrl.run.errors import CheckpointError, ConfigMismatchError
from hrl.run.evaluate import evaluate_run
from hrl.run.folder import RunFolder
from hrl.run.load import LoadedRun
from hrl.run.memory import MemoryEstimateError
from hrl.run.train import train
from tests.fakes import replayed

SMALL = ["size=debug", "suite=debug", "device=cpu"]


def build(overrides: list[str]) -> Dreamer | Director:
    config, plain = load(overrides)
    agent = {"dreamer": Dreamer, "director": Director}[config.agent.name]
    return agent(config.agent, agent_spec(config, Suite.from_dict(plain["suite"])))


def trainable(agent: Dreamer | Director) -> int:
    return sum(parameter.numel() for parameter in agent.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("size", "units"), [("xs", 344), ("12m", 768), ("25m", 1152), ("50m", 1536)]
)
def test_the_matched_flat_method_is_as_large_as_the_hierarchy(size, units):
    """With the widths that the preset and its comment give."""
    with torch.device("meta"):  # counted, not made
        wider = [] if size == "xs" else [f"agent.policy_units={units}"]
        matched = build(["experiment=matched_parameters", f"size={size}", *wider])
        hierarchy = build(["agent=director", f"size={size}"])
    assert matched.config.policy_units == units
    assert trainable(matched) / trainable(hierarchy) == pytest.approx(1, abs=0.01)


def test_the_published_preset_turns_every_switch():
    published, modern = (
        load(overrides)[0] for overrides in (["experiment=director_2022"], ["agent=director"])
    )
    assert published.method == "director_2022"
    for key in (
        "action_gradient",
        "worker_reward",
        "goal_alignment",
        "manager_reward",
        "carry_over_episodes",
        "greedy_codes",
    ):
        assert getattr(published.agent, key) != getattr(modern.agent, key)
    assert published.agent.discount_per_decision == pytest.approx(0.99)
    assert modern.agent.discount_per_decision == pytest.approx(modern.agent.discount**8)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["agent=director", "agent.skill_duration=5"],
            r"agent\.skill_duration is 5; it must divide horizon, which is 16",
        ),
        (
            ["agent=director", "agent.horizon=4"],
            r"agent\.skill_duration is 8; it must divide horizon, which is 4",
        ),
        (
            ["agent=dreamer", "agent.conditioning.preset=all"],
            r"preset is 'all'; choose from heads, world_model",
        ),
        (
            ["agent=dreamer", "network.world_model.blocks=7"],
            r"network\.world_model\.blocks is 7; it must divide deter",
        ),
        (
            ["agent=dreamer", "network.world_model.kernel=4"],
            r"network\.world_model\.kernel is 4; it must be odd",
        ),
        (
            ["agent=dreamer", "network.world_model.depth=3"],
            r"network\.world_model\.depth is 3; .*blocks, which is 8",
        ),
        (
            ["agent=dreamer", "network.world_model.classes=1"],
            r"classes is 1; it must be at least 2 and at most 256",
        ),
        (
            ["agent=dreamer", "agent.policy.entropy=none"],
            r"agent\.policy\.entropy is \'none\'; choose from adaptive",
        ),
        (
            ["agent=director", "agent.action_gradient=both"],
            r"action_gradient is 'both'; choose from reinforce, dynamics",
        ),
        (["agent=dreamer", "agent.train_ratio=0"], r"agent\.train_ratio is 0.*above 0"),
        (["agent=dreamer", "agent.imag_last=-1"], r"agent\.imag_last is -1; it must be at least 0"),
        (
            ["agent=dreamer", "agent.beta2=1"],
            r"agent\.beta2 is 1\.0; it must be at least 0 and below 1",
        ),
        (
            ["agent=director", "agent.worker.entropy_least=2"],
            r"agent\.worker\.entropy_least is 2",
        ),
        (
            ["agent=director", "agent.goal_alignment=current"],
            r"agent\.goal_alignment is 'current'; it needs worker_reward=max_cosine",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(overrides)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([], r"sequence_length is 32"),
        (["agent.sequence_length=16", "agent.burn_in=20"], r"burn_in is 20"),
    ],
)
def test_batches_longer_than_episodes_are_refused_before_anything_is_written(
    overrides, key, tmp_path
):
    folder = tmp_path / "run"
    message = rf"agent\.{key}; the longest episodes of the suite have 20 steps"
    with pytest.raises(ConfigError, match=message):
        train(load(["agent=dreamer", *SMALL, f"folder={folder}", *overrides]), "a test")
    assert not folder.exists()


@pytest.mark.parametrize("agent", ["dreamer", "director"])
def test_a_replay_that_cannot_fit_is_refused_by_its_key_before_anything_is_written(agent, tmp_path):
    folder = tmp_path / "run"
    settings = [
        f"agent={agent}",
        *SMALL,
        "agent.sequence_length=16",
        f"folder={folder}",
        "agent.replay_capacity=10_000_000_000",
    ]
    with pytest.raises(
        MemoryEstimateError,
        match=r"the largest parts: replay \(agent\.replay_capacity\) \d+\.\d TiB",
    ):
        train(load(settings), "a test")
    assert not folder.exists()


@pytest.mark.parametrize(
    "key",
    [
        "network.world_model.deter=128",
        pytest.param("agent.replay_capacity=2000", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(key, tmp_path):
    """By the differing key; and where the configuration was edited to agree, by what does not
    fit."""
    settings = [
        "agent=dreamer",
        *SMALL,
        "agent.sequence_length=8",
        "agent.replay_capacity=1000",
        "evaluation.every=0",
    ]
    settings += [
        "tracking.wandb=disabled",
        "tracking.progress=false",
        f"folder={tmp_path / 'run'}",
        "frames=256",
    ]
    train(load(settings), "a test")
    other = load([*settings, key, "frames=512", "physics=mujoco"])
    with pytest.raises(ConfigMismatchError, match=key.partition("=")[0].replace(".", r"\.")):
        train(other, "a test")
    RunFolder(tmp_path / "run").write_config(other.plain)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    saved = checkpoints.load_latest()
    checkpoints.save(saved.frames + 1, saved.state, {**saved.metadata, "config": other.plain})
    with pytest.raises(CheckpointError, match="it does not fit this agent"):
        train(other, "a test")


@pytest.mark.parametrize("agent", ["dreamer", "director"])
def test_the_replays_budget_is_what_it_takes(agent):
    config, plain = load([f"agent={agent}", *SMALL, "agent.replay_capacity=1000"])
    suite = Suite.from_dict(plain["suite"])
    policy = build([f"agent={agent}", *SMALL])
    env = benchmark_update.make_vec(
        suite, config.num_envs, frame_stack=1, image_size=config.image_size
    )
    kept = replay_columns(env.single_observation_space, suite.action_size, policy.latent_columns())
    env.close()
    replay = config.agent.memory_uses(run_shapes(config, suite))[0]
    assert replay.size == ReplayBuffer.bytes_needed(kept, config.num_envs, 1000)


@pytest.mark.parametrize("agent", ["dreamer", "director"])
def test_imagination_draws_no_images(agent, monkeypatch):
    """The decoder runs once an update, on what was seen."""
    trained = build([f"agent={agent}", *SMALL, "agent.sequence_length=4", "agent.batch_size=2"])
    decoder, drawn = trained.world_model.decoder, []
    maps = decoder._maps
    monkeypatch.setattr(
        decoder, "_maps", lambda deter, stoch: drawn.append(deter.shape[:2]) or maps(deter, stoch)
    )
    trained.loss(replayed(trained.spec, 2, 4))
    assert drawn == [(2, 4)]


def test_imagination_is_recorded(tmp_path):
    """Both methods have open-loop videos; the hierarchy's worker is also sent to fixed goals."""
    config, plain = load(["agent=director", *SMALL])
    suite = Suite.from_dict(plain["suite"])
    eval_config = EvalConfig(1, 0, 1, config.image_size, torch.device("cpu"), 1)
    task = suite.tasks("train")[0]
    for agent, names in (
        ("dreamer", ["a_open_loop.mp4"]),
        ("director", ["a_open_loop.mp4", "a_goal_reaching.mp4"]),
    ):
        folder = tmp_path / agent
        folder.mkdir()
        paths = record_imagination(
            build([f"agent={agent}", *SMALL]), suite, task, eval_config, folder / "a.mp4"
        )
        assert [path.name for path in paths] == names
        assert all(path.stat().st_size > 1000 for path in paths)


@pytest.mark.slow
def test_goals_from_the_replay_are_recorded(tmp_path, monkeypatch):
    """In training: each replayed goal is set, and shown as it was seen."""
    given_goals, shown = [], []
    with_high_level_action, named = Director.with_high_level_action, imagination_video.caption
    monkeypatch.setattr(
        Director,
        "with_high_level_action",
        lambda *given: given_goals.append(given[2]) or with_high_level_action(*given),
    )
    monkeypatch.setattr(
        imagination_video, "caption", lambda image, name: shown.append(name) or named(image, name)
    )
    settings = [
        "agent=director",
        *SMALL,
        "agent.sequence_length=8",
        "agent.replay_capacity=1000",
        "tracking.wandb=disabled",
    ]
    settings += [
        "tracking.progress=false",
        "frames=512",
        f"folder={tmp_path / 'run'}",
        "agent.train_ratio=2",
    ]
    train(load(settings), "a test")
    assert shown.count("goal: from the replay") == imagination_video.REPLAY_GOALS
    rows = (
        Checkpoints(tmp_path / "run" / "checkpoints")
        .load_latest()
        .state["learner"]["replay"]["rows"]["deter"]
    )
    kept = torch.cat(rows).float()
    for goal in given_goals[-imagination_video.REPLAY_GOALS :]:
        assert bool((kept == goal).all(1).any())


def test_goals_are_no_skills_whose_usage_could_be_counted():
    config, plain = load(["agent=director", *SMALL])
    suite = Suite.from_dict(plain["suite"])
    eval_config = EvalConfig(1, 0, 1, config.image_size, torch.device("cpu"), 1)
    found = evaluate(build(["agent=director", *SMALL]), suite, ["interpolation"], eval_config)
    assert len(found.scores) == len(suite.tasks("interpolation"))
    assert found.usage.empty


def test_predictions_use_the_actions_alone():
    """The same start and other actions lead elsewhere; the future of what was seen plays no
    part."""
    agent = build(["agent=dreamer", *SMALL])
    state, task = agent.initial_state(2), torch.zeros(2, 2)
    generator = torch.Generator().manual_seed(0)
    state["deter"] = torch.randn(state["deter"].shape, generator=generator)
    actions = torch.randn(4, 2, 2, generator=generator)
    first, again, other = (
        agent.predict_images(state, moves, task) for moves in (actions, actions, -actions)
    )
    assert first.shape == (4, 2, 32, 32, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_a_backward_pass_counts_for_the_part_that_called_the_operation():
    """Actions that learn through the imagined steps have gradient that passes them; goals have a
    part of their own."""
    overrides = ["agent=director", *SMALL, "precision=float32", "agent.action_gradient=dynamics"]
    shares = benchmark_update.run(overrides, updates=2)["director"]["shares"]
    assert min(shares["imagination, backward"], shares["goal autoencoder, backward"]) > 0
    assert {"replay", "optimizer"} < shares.keys(), "these have no backward pass"
    assert np.isclose(sum(shares.values()), 1, atol=0.01)


@pytest.mark.parametrize(
    ("overrides", "last"),
    [
        (["agent=dreamer", "size=xs"], 4),
        (["agent=director", "size=xs", "agent.imag_last=3"], 3),
        (["agent=director", "size=12m"], 0),
        (["agent=dreamer", "experiment=half_hour"], 0),
        (["agent=dreamer", "experiment=walker_hour"], 8),
    ],
)
def test_a_size_says_how_many_states_are_imagined_from(overrides, last):
    assert load(overrides)[0].agent.imag_last == last
    assert load(["agent=ppo", "size=xs"])[0].agent.name == "ppo", "sizes are for all agents"


def test_older_runs_go_on_unless_they_imagine_from_other_states():
    plain = load(["agent=dreamer", "size=xs"])[1]
    older = deepcopy(plain)
    del older["network"]["imag_last"]
    assert not differing_keys(older, plain, ignore=MAY_CHANGE)
    older["agent"]["imag_last"] = 0
    assert differing_keys(older, plain, ignore=MAY_CHANGE) == {"agent.imag_last": (0, 4)}


def test_a_run_that_compiles_says_so_first(tmp_path, capsys):
    for way, said in (("none", False), ("parts", True)):
        overrides = [
            "agent=dreamer",
            *SMALL,
            f"agent.compile={way}",
            "frames=1",
            "agent.log_interval=1",
        ]
        composed = load(
            [
                *overrides,
                "agent.replay_capacity=400",
                "agent.sequence_length=16",
                f"folder={tmp_path / way}",
            ]
        )
        train(composed, "test")
        assert ("updates are compiled when they are first made" in capsys.readouterr().out) == said


@pytest.mark.slow
def test_the_benchmark_accounts_for_all_of_an_update():
    result = benchmark_update.run(
        [*SMALL, "precision=float32", "agent.actor_critic_start=100"], updates=2
    )
    for method in ("dreamer", "director"):
        assert result[method]["milliseconds"] > 0
        shares = result[method]["shares"]
        assert shares["imagination, forward"] > 0, "whole updates, whatever comes first in training"
        assert "imagination, backward" not in shares, (
            "by likelihood nothing goes back through the imagined steps"
        )
        assert min(shares["world model, backward"], shares["actors and critics, backward"]) > 0
        assert np.isclose(sum(shares.values()), 1, atol=0.01)
    assert result["director"]["parameters"] > result["dreamer"]["parameters"]
    assert result["ratio"] > 0
    with pytest.raises(ConfigError, match="ppo has no world model; choose from dreamer, director"):
        benchmark_update.run(["agent=ppo", *SMALL], updates=2)


@pytest.mark.parametrize(("agent", "count"), [("dreamer", 1), ("director", 3)])
def test_scores_of_the_training_split_come_with_diagnostics_of_the_world_model(
    agent, count, tmp_path
):
    """Of as few worlds as there can be; gone when these scores are."""
    composed = load([f"agent={agent}", *SMALL])
    run = LoadedRun(
        build([f"agent={agent}", *SMALL]), composed, Suite.from_dict(composed.plain["suite"]), 0
    )
    files = RunFolder(tmp_path)
    tables = [files.open_loop_error, files.goal_reaching, files.goal_distance]
    evaluate_run(run, tmp_path, "a test", episodes=1, videos=0)
    assert [path.exists() for path in tables] == [True] * count + [False] * (3 - count)
    if agent == "director":
        assert set(pd.read_csv(files.goal_distance)["points"]) == {"goals", "states"}
        columns_found = set(pd.read_csv(files.goal_reaching).columns)
        assert {"goal_offset", "steps", "distance", "other_goal_distance"} < columns_found
    files.scores.unlink()
    evaluate_run(run, tmp_path, "a test", episodes=1, splits=["interpolation"], videos=0)
    assert not any(path.exists() for path in tables)
