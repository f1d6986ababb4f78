"""A number that is not finite ends every command in the same way: one line, exit code 2, a dump."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import Suite, make_vec
from envs.simulation.physics import SimulationError
from envs.vector.mujoco import MujocoVectorEnv
from hrl import load_policy
from hrl.agents.base import NonFiniteUpdate
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.cli import main
from hrl.config import from_saved
from hrl.data.nonfinite import NonFiniteQuantity
from hrl.data.observation import Observation
from hrl.run.build import agent_spec, build_learner
from hrl.run.checkpoint_format import Checkpoint, read, write
from hrl.run.folder import RunFolder
from hrl.run.load import load_run

QUIET = [
    "suite=debug",
    "size=debug",
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.videos=0",
    "tracking.progress=false",
    "threads=1",
    "device=cpu",
]
WORLD_MODEL = [
    "agent.batch_size=2",
    "agent.sequence_length=8",
    "agent.replay_capacity=600",
    "agent.train_ratio=0.5",
]
AGENTS = {
    "ppo": [],
    "skills": [],
    "dreamer": WORLD_MODEL,
    "director": WORLD_MODEL,
    "sb3_ppo": [],
    "sb3_sac": ["agent.learning_starts=64", "agent.batch_size=16", "agent.buffer_size=2000"],
}


def failed(capsys, *arguments: object) -> str:
    """Return the message of a command that ends with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.count("not finite") <= 1, message
    return message


def train(capsys, agent: str, folder: Path, *more: str) -> str:
    """Return the message of a training that fails."""
    return failed(
        capsys, "train", f"agent={agent}", f"folder={folder}", *QUIET, *AGENTS[agent], *more
    )


def dump_of(message: str) -> Checkpoint:
    """Return what the file that a message names holds."""
    named = re.search(r"what it was computed from is in (\S+)", message)
    assert named, message
    return read(Path(named[1]))


@pytest.fixture
def break_rewards(monkeypatch):
    """Return a function that makes one reward NaN, of training's environments or evaluations'."""

    def patch(evaluation: bool, step: int = 3) -> None:
        simulate = MujocoVectorEnv._simulate
        steps = itertools.count()

        def broken(env, *arguments):
            transition = simulate(env, *arguments)
            if env._options.evaluation == evaluation and next(steps) == step:
                transition.rewards[-1] = np.nan
            return transition

        monkeypatch.setattr(MujocoVectorEnv, "_simulate", broken)

    return patch


@pytest.mark.parametrize("agent", AGENTS)
def test_a_reward_leaves_what_was_fed_and_no_trace_in_the_replay(
    agent, tmp_path, break_rewards, capsys
):
    break_rewards(evaluation=False)
    message = train(capsys, agent, tmp_path / "run")
    assert "reward of environments [7] is not finite at frames " in message
    dump = dump_of(message)
    batch = dump.state["batch"]
    assert np.flatnonzero(~np.isfinite(batch["reward"])).tolist() == [7]
    assert bool(torch.isfinite(torch.as_tensor(batch["action"])).all())
    assert batch["pixels"].shape[0] == batch["task"].shape[0] == 8
    rows = dump.state["state"]["learner"].get("replay", {})
    rewards = rows.get("rewards", rows.get("rows", {}).get("reward", []))
    assert all(np.isfinite(np.asarray(values)).all() for values in rewards)


def learner_of(folder: Path, dump: Checkpoint):
    """Return the learner of a run as a dump has it."""
    config, plain = from_saved(RunFolder(folder).read_config())
    suite = Suite.from_dict(plain["suite"])
    env = make_vec(suite, config.num_envs, image_size=config.image_size)
    learner = build_learner(config, suite, env, agent_spec(config, suite))
    state = dump.state["state"]["learner"]
    learner.load_state_dict(state)
    return learner


@pytest.mark.parametrize("agent", AGENTS)
def test_an_update_is_done_again_from_its_dump(agent, tmp_path, capsys):
    # The second update comes before the next action.
    early = ["agent.warmup=0", "agent.train_ratio=4"] if AGENTS[agent] is WORLD_MODEL else []
    message = train(capsys, agent, tmp_path / "run", "agent.learning_rate=1e30", *early)
    dump = dump_of(message)
    assert any(not math.isfinite(value) for value in dump.state["metrics"].values())
    learner = learner_of(tmp_path / "run", dump)
    batch = dump.state["batch"]
    if agent.startswith("sb3"):
        buffer = learner.model.rollout_buffer if agent == "sb3_ppo" else None
        for name, rows in batch.items():
            (buffer.observations if name in buffer.observations else vars(buffer))[name] = rows
        if buffer is not None:
            buffer.full = buffer.generator_ready = True
        with pytest.raises(NonFiniteUpdate, match=message.split()[1]):
            learner._learn()
    else:
        loss, *_ = learner.policy.loss(batch)
        learner.module.zero_grad()
        loss.backward()
        gradients = [p.grad.norm() for p in learner.module.parameters() if p.grad is not None]
        assert not math.isfinite(float(loss.detach() + sum(gradients)))


@pytest.mark.parametrize("agent", ["ppo", "sb3_sac"])
def test_an_evaluation_in_training(agent, tmp_path, break_rewards, capsys):
    break_rewards(evaluation=True)
    message = train(capsys, agent, tmp_path / "run", "evaluation.every=128")
    assert "reward of environments [2] is not finite" in message
    assert {"pixels", "action", "reward"} <= set(dump_of(message).state["batch"])


def test_a_metric(tmp_path, monkeypatch, capsys):
    iterate = OnPolicyLearner.iterate
    monkeypatch.setattr(
        OnPolicyLearner, "iterate", lambda self: iterate(self) | {"loss/odd": math.nan}
    )
    message = train(capsys, "ppo", tmp_path / "run")
    assert message.startswith("error: loss/odd is not finite at frames 256, seed 0; ")
    assert math.isnan(dump_of(message).state["metrics"]["loss.odd"])
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_a_simulation_that_fails(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise SimulationError("world 3: the state has left what can be simulated")

    monkeypatch.setattr(MujocoVectorEnv, "_simulate", fails)
    message = train(capsys, "ppo", tmp_path / "run")
    assert message.startswith("error: world 3: the state has left what can be simulated at frames")
    assert "action" in dump_of(message).state["batch"]


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Return runs whose weights are all NaN, by agent."""
    runs = tmp_path_factory.mktemp("spoiled")
    for agent in ("skills", "director", "sb3_ppo"):
        files = RunFolder(runs / agent)
        settings = [*QUIET, *AGENTS[agent], "frames=128", "evaluation.every=0"]
        assert main(["train", f"agent={agent}", f"folder={files}", *settings]) == 0
        whole = read(files.policy)
        for path in files.checkpoints.iterdir():
            path.unlink()
        state = {name: _spoiled(value) for name, value in whole.state.items()}
        write(files.policy, whole.frames, state, whole.metadata)
    return runs


def _spoiled(value):
    if isinstance(value, dict):
        return {name: _spoiled(inner) for name, inner in value.items()}
    is_weight = isinstance(value, torch.Tensor) and value.is_floating_point()
    return torch.full_like(value, torch.nan) if is_weight else value


@pytest.mark.parametrize("command", ["evaluate", "play"])
@pytest.mark.parametrize("agent", ["skills", "director", "sb3_ppo"])
def test_weights_that_are_not_finite_write_no_scores(agent, command, spoiled, capsys):
    folder = spoiled / agent
    message = failed(capsys, command, folder)
    assert "action of environments [" in message
    assert not (folder / "scores.csv").exists()
    assert not list(folder.rglob("*.mp4"))
    batch = dump_of(message).state["batch"]
    seen = Observation.of(batch)
    state = {
        key.removeprefix("policy_state."): value
        for key, value in batch.items()
        if key.startswith("policy_state.")
    }
    action, _ = load_run(folder).policy.act(seen, state, None)
    assert bool(action.isnan().all())


def test_a_program_that_acts_gets_no_action_that_is_not_finite(spoiled):
    policy = load_policy(spoiled / "skills")
    env = policy.make_vec_env(3)
    with pytest.raises(NonFiniteQuantity, match="action of environments"):
        policy.act(env.reset()[0], done=True)
    env.close()


def test_reference_scores_can_be_played_again_after_a_failure(tmp_path, monkeypatch, capsys):
    command = ["evaluate", "agent=zero", f"folder={tmp_path / 'zero'}", *QUIET, "--videos=0"]
    simulate = MujocoVectorEnv._simulate

    def broken(*arguments):
        transition = simulate(*arguments)
        transition.rewards[0] = np.inf
        return transition

    with monkeypatch.context() as patch:
        patch.setattr(MujocoVectorEnv, "_simulate", broken)
        message = failed(capsys, *command)
    assert "reward of environments [0] is not finite" in message
    dump_of(message)
    assert main(command) == 0


def test_a_dump_that_cannot_be_written_does_not_hide_the_reason(
    tmp_path, break_rewards, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    break_rewards(evaluation=False)
    monkeypatch.setattr("hrl.run.nan_dump.write", full)
    message = train(capsys, "ppo", tmp_path / "run")
    assert "reward of environments [7] is not finite" in message
    assert "what it was computed from could not be saved" in message
