"""A run folder read back for acting: the policy that was trained, in memory for what acts and
nothing else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open
from stable_baselines3.common.buffers import DictReplayBuffer

from envs import Suite, make_vec
from hrl.agents import registry
from hrl.agents.base import Policy
from hrl.agents.registry import find_agent, registered_agents
from hrl.config import load
from hrl.run import checkpoints
from hrl.run.build import agent_spec, build_learner
from hrl.run.checkpoint_format import read, write
from hrl.run.checkpoints import Checkpoints
from hrl.run.errors import CheckpointError, FolderError
from hrl.run.load import load_run
from hrl.run.train import train
from tests.fakes import all_used, seen
from tests.glossary import RETURNS, TIMING, section, sections, unexplained, unlogged

QUIET = [
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.progress=false",
    "threads=1",
]
SHORT = ["size=debug", "suite=debug", "frames=256", "evaluation.every=256", "tracking.videos=0"]
SAC = [
    "agent.learning_starts=64",
    "agent.buffer_size=2000",
    "agent.gradient_steps=1",
    "agent.batch_size=16",
]
MODEL = ["agent.batch_size=4", "agent.sequence_length=4", "agent.train_ratio=2"]
LEARNING = [name for name, entry in registered_agents().items() if entry.build_learner]
OWN = {
    "sb3_sac": SAC,
    "dreamer": [*MODEL, "agent.replay_value_scale=0.3"],
    "director": [*MODEL, "agent.near_goals=1"],
}


@pytest.fixture(scope="module", params=LEARNING)
def run(request, tmp_path_factory) -> tuple[str, list[str], Path]:
    """A short run of each learner: its agent, what was typed, its folder."""
    agent = request.param
    folder = tmp_path_factory.mktemp(agent) / "run"
    overrides = [f"agent={agent}", f"folder={folder}", *QUIET, *SHORT, *OWN.get(agent, [])]
    train(load(overrides), "a test")
    return agent, overrides, folder


def logged_keys(path: Path) -> set[str]:
    return {key for line in path.read_text().splitlines() for key in json.loads(line)}


def actions(policy: Policy) -> torch.Tensor:
    """Of some images: greedy ones, then drawn ones."""
    pixels = torch.randint(
        0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    task = torch.linspace(-1, 1, 10).reshape(5, 2)
    observation = seen(pixels, task, all_used(5, 2))
    with torch.no_grad():
        greedy, state = policy.act(observation, policy.initial_state(5), None)
        drawn, _ = policy.act(observation, state, torch.Generator().manual_seed(1))
    return torch.cat([greedy, drawn])


def test_it_acts_as_the_learner_that_was_saved_does(run):
    _, overrides, folder = run
    config, plain = load(overrides)
    suite = Suite.from_dict(plain["suite"])
    env = make_vec(suite, config.num_envs, image_size=config.image_size)
    learner = build_learner(config, suite, env, agent_spec(config, suite))
    untrained = actions(learner.policy)
    state = Checkpoints(folder / "checkpoints").load_latest().state
    learner.load_state_dict({**state["learner"], "policy": state["policy"]})
    env.close()
    opened = load_run(folder)
    assert opened.frames == learner.frames == 256
    assert torch.equal(actions(opened.policy), actions(learner.policy))
    assert not torch.equal(actions(opened.policy), untrained)


def test_the_glossary_has_what_is_logged_and_nothing_else(run):
    agent, _, folder = run
    keys = logged_keys(folder / "metrics.jsonl")
    metrics = [name for found in sections() if found.logs(agent) for name in found.metrics]
    assert unexplained(keys, metrics) == []
    # No episode of these short runs begins and ends in them: `test_train` has a longer run.
    assert unlogged(keys, metrics) == sorted(section(RETURNS).metrics)
    assert logged_keys(folder / "timing.jsonl") == set(section(TIMING).metrics)


def test_no_learner_environment_or_replay_is_built(run, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("acting needs no learner")

    entry = replace(find_agent(run[0]), build_learner=refuse)
    monkeypatch.setitem(registry._ENTRIES, run[0], entry)
    monkeypatch.setattr(DictReplayBuffer, "__init__", refuse)
    monkeypatch.setattr("envs.vector.base.PixelVectorEnv.__init__", refuse)
    assert actions(load_run(run[2]).policy).shape == (10, 2)


def test_only_what_acts_is_read(run, monkeypatch):
    folder = run[2]
    opened = []
    whole = checkpoints.read
    monkeypatch.setattr(
        checkpoints,
        "read",
        lambda path, parts=None: opened.append((path, parts)) or whole(path, parts),
    )
    load_run(folder)
    steps = folder / "checkpoints" / "step_000000000256"
    assert opened == [
        (steps.with_suffix(".training.safetensors"), ()),
        (steps.with_suffix(".policy.safetensors"), None),
    ]


def test_the_policy_file_holds_the_weights_by_their_names_and_says_what_it_is(run):
    folder = run[2]
    opened = load_run(folder)
    with safe_open(folder / "policy.safetensors", framework="pt") as file:
        names = set(file.keys())
    saved = read(folder / "policy.safetensors")
    assert names <= saved.state.keys()
    assert saved.frames == opened.frames
    assert saved.metadata == {"config": opened.plain}
    size = (folder / "policy.safetensors").stat().st_size
    whole = sum(path.stat().st_size for path in (folder / "checkpoints").iterdir())
    assert size < whole / 2, "weights are not all of a checkpoint"


def test_a_run_can_be_shared_without_its_checkpoints(run, tmp_path):
    for name in ("config.yaml", "policy.safetensors"):
        shutil.copy(run[2] / name, tmp_path / name)
    assert torch.equal(actions(load_run(tmp_path).policy), actions(load_run(run[2]).policy))
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(FolderError, match="has no checkpoint yet"):
        load_run(tmp_path)


def test_weights_of_another_kind_are_refused_in_one_message(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[2], folder)
    saved = Checkpoints(folder / "checkpoints")
    checkpoint = saved.load_latest()
    checkpoint.state["policy"].popitem()
    saved.save(checkpoint.frames, checkpoint.state, checkpoint.metadata)
    with pytest.raises(
        CheckpointError, match=r"does not hold this agent's weights.*[Mm]issing key"
    ):
        load_run(folder)


# Parts of a checkpoint.

STATE = {
    "learner": {
        "module": {"weight": torch.ones(3), "nested": [torch.zeros(2), 5]},
        "replay": torch.zeros(40),
    },
    "env": {"qpos": torch.ones(2)},
    "numbers": {7: "seven"},
}


class Spy:
    """A safetensors file that remembers which tensors were taken out of it."""

    taken: ClassVar[list[str]] = []

    def __init__(self, *arguments, **named):
        self.file = safe_open(*arguments, **named)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *exception):
        return self.file.__exit__(*exception)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def get_tensor(self, name):
        self.taken.append(name)
        return self.file.get_tensor(name)


def test_parts_are_what_was_saved_and_nothing_else_is_read(tmp_path, monkeypatch):
    path = tmp_path / "step_000000000001.safetensors"
    write(path, 1, STATE, {"note": "whole"})
    monkeypatch.setattr("hrl.run.checkpoint_format.safe_open", Spy)
    part = read(path, ["learner/module", "numbers/7"])
    assert sorted(Spy.taken) == ["learner/module/nested/0", "learner/module/weight"]
    assert part.frames == 1
    assert part.metadata == {"note": "whole"}
    assert part.state.keys() == {"learner", "numbers"}
    assert part.state["numbers"] == {7: "seven"}
    assert part.state["learner"].keys() == {"module"}
    assert torch.equal(part.state["learner"]["module"]["weight"], torch.ones(3))
    assert part.state["learner"]["module"]["nested"][1] == 5


def test_a_part_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "step_000000000001.safetensors"
    write(path, 1, STATE, {})
    for part in ("learner/policy", "module", "env/qpos/x"):
        with pytest.raises(CheckpointError, match=f"its state has no '{part}'"):
            read(path, [part])


def test_damage_counts_where_it_is_read_and_a_cut_file_always(tmp_path):
    path = tmp_path / "step_000000000001.safetensors"
    write(path, 1, {"learner": {"module": torch.ones(64)}, "replay": torch.zeros(64)}, {})
    content = path.read_bytes()
    ones = content.rindex(torch.ones(64).numpy().tobytes())
    zeros = content.rindex(torch.zeros(64).numpy().tobytes())
    path.write_bytes(content[:ones] + b"x" + content[ones + 1 :])
    with pytest.raises(CheckpointError, match="checksum of 'learner/module'"):
        read(path, ["learner/module"])
    path.write_bytes(content[:zeros] + b"x" + content[zeros + 1 :])
    assert torch.equal(read(path, ["learner/module"]).state["learner"]["module"], torch.ones(64))
    path.write_bytes(content[:-8])
    with pytest.raises(CheckpointError, match="truncated"):
        read(path, ["learner/module"])
