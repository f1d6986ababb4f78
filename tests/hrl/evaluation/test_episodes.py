"""Evaluation: fixed episodes, complete tables, and shuffles of the right inputs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from envs import load_suite
from envs.families.layout_sets import stored_set
from hrl.agents.scripted import RandomPolicy, ZeroPolicy
from hrl.data.observation import Observation
from hrl.evaluation import episodes as evaluation
from hrl.evaluation.episodes import EvalConfig, count_episodes, evaluate, metrics

EVAL_CONFIG = EvalConfig(
    episodes=2, seed=5, frame_stack=1, image_size=16, device=torch.device("cpu")
)


@pytest.fixture(scope="module")
def suite():
    """Short episodes of the real suite."""
    plain = load_suite("point_mass").to_dict()
    for tasks in plain["splits"].values():
        for task in tasks:
            task["episode_length"] = 40
    return type(load_suite("point_mass")).from_dict(plain)


class Recorder(ZeroPolicy):
    """A manager whose high-level action is its task input; stores its inputs at every step."""

    def __init__(self, skill_duration=4):
        super().__init__(2)
        self.skill_duration, self.seen = skill_duration, []

    def initial_state(self, num_envs):
        return {
            "steps_since_decision": torch.zeros(num_envs, dtype=torch.int64),
            "high_level_action": torch.zeros(num_envs, 2),
        }

    def is_decision_step(self, state):
        return state["steps_since_decision"] % self.skill_duration == 0

    def decide(self, observation, state, generator):
        assert generator is None, "evaluation is greedy"
        return {
            **state,
            "high_level_action": torch.where(
                self.is_decision_step(state)[:, None], observation.task, state["high_level_action"]
            ),
        }

    def act_low_level(self, observation, state, generator):
        self.seen.append((observation.task.clone(), state["high_level_action"].clone()))
        return torch.zeros(len(observation.task), 2), {
            **state,
            "steps_since_decision": state["steps_since_decision"] + 1,
        }

    def act(self, observation, state, generator):
        return self.act_low_level(
            observation, self.decide(observation, state, generator), generator
        )

    def high_level_action(self, state):
        return state["high_level_action"]

    def with_high_level_action(self, state, high_level_action):
        return {**state, "high_level_action": high_level_action}


def test_every_task_is_played_as_often_as_asked(suite):
    scores = evaluate(
        RandomPolicy(2, seed=0), suite, ["train", "interpolation"], EVAL_CONFIG
    ).scores
    counts = scores.groupby(["split", "task"]).size()
    assert set(counts) == {2}
    assert set(counts.index) == {
        (s, t.name) for s in ("train", "interpolation") for t in suite.tasks(s)
    }
    assert set(scores["length"]) == {40}
    assert scores["return"].between(0, 40).all()
    assert (scores["steps_to_success"].notna() == (scores["success"] == 1)).all()
    assert scores["steps_to_success"].dropna().between(1, 40).all()


def test_layouts_and_path_lengths_stand_beside_the_scores(suite):
    plain = evaluate(ZeroPolicy(2), suite, ["train"], EVAL_CONFIG).scores
    assert plain[["layout", "path_length"]].isna().all(axis=None)
    mazes = load_suite("maze_many_point")
    short = [replace(task, episode_length=20) for task in mazes.tasks("train")]
    drawn = [
        evaluate(policy, replace(mazes, splits={"train": tuple(short)}), ["train"], EVAL_CONFIG)
        for policy in (ZeroPolicy(2), RandomPolicy(2, seed=0))
    ]
    columns = ["task", "episode", "layout", "path_length"]
    scores = drawn[0].scores
    pd.testing.assert_frame_equal(scores[columns], drawn[1].scores[columns])
    assert scores["path_length"].between(2, 24).all()
    for row in scores.itertuples():
        assert row.layout in stored_set(row.task).names
    assert scores["layout"].nunique() > 1


def test_episodes_are_the_same_for_all_and_every_time(suite):
    eval_config = replace(EVAL_CONFIG, episodes=5)  # from most starts standing still earns nothing
    first = evaluate(ZeroPolicy(2), suite, ["train"], eval_config).scores
    second = evaluate(ZeroPolicy(2), suite, ["train"], eval_config).scores
    pd.testing.assert_frame_equal(first, second)
    assert first.groupby("task")["return"].nunique().gt(1).any(), (
        "episodes of a task start in different places"
    )


def test_an_episode_is_the_same_whatever_is_evaluated_beside_it(suite):
    """Other splits, another order of tasks, more episodes: standing still earns the same in the
    same episode."""
    keys = ["split", "task", "episode"]
    eval_config = replace(EVAL_CONFIG, episodes=4)
    few = evaluate(ZeroPolicy(2), suite, ["train", "interpolation"], eval_config).scores.set_index(
        keys
    )["return"]
    assert few.nunique() > 2
    reversed_tasks = {name: tasks[::-1] for name, tasks in suite.splits.items()}
    turned = replace(suite, splits=reversed_tasks)
    more = evaluate(
        ZeroPolicy(2), turned, ["interpolation", "train"], replace(EVAL_CONFIG, episodes=6)
    )
    others = more.scores.set_index(keys)["return"]
    assert len(others) > len(few)
    pd.testing.assert_series_equal(others.loc[few.index], few)
    other_seed = evaluate(
        ZeroPolicy(2), suite, ["train"], replace(eval_config, seed=6)
    ).scores.set_index(keys)["return"]
    assert (other_seed != few.loc[other_seed.index]).any()


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_rounds_play_the_episodes_that_are_played_side_by_side(suite, at_once, monkeypatch):
    """Five episodes a task in one, two or three worlds each; in the last round there may be worlds
    to spare."""
    eval_config = replace(EVAL_CONFIG, episodes=5)
    together = evaluate(Recorder(), suite, ["train"], eval_config)
    monkeypatch.setattr(
        evaluation, "worlds_at_once", lambda suite, tasks, episodes: tasks * at_once
    )
    policy = Recorder()
    apart = evaluate(policy, suite, ["train"], eval_config)
    assert len(policy.seen) == 20 * -(-5 // at_once), "agent steps of so many rounds"
    order = ["task", "episode"]
    for ours, theirs in ((apart.scores, together.scores), (apart.usage, together.usage)):
        keys = [key for key in (*order, "skill") if key in ours]
        pd.testing.assert_frame_equal(
            *(t.sort_values(keys, ignore_index=True) for t in (ours, theirs))
        )
    assert together.scores["return"].nunique() > 3


def test_a_random_policy_does_not_repeat_itself_from_round_to_round(suite, monkeypatch):
    """Three rounds of one world a task; each split begins anew, whatever was played before it."""
    monkeypatch.setattr(evaluation, "worlds_at_once", lambda suite, tasks, episodes: tasks)
    policy = RandomPolicy(2, seed=0)
    drawn: list[torch.Tensor] = []
    act = policy.act

    def spy(observation, state, generator):
        action, state = act(observation, state, generator)
        drawn.append(action)
        return action, state

    policy.act = spy
    for _ in range(2):
        evaluate(policy, suite, ["train"], replace(EVAL_CONFIG, episodes=3))
    first, again = torch.stack(drawn).chunk(2)
    assert torch.equal(first, again)
    rounds = first.chunk(3)
    assert not any(torch.equal(rounds[0], other) for other in rounds[1:])


def test_task_shuffle_gives_another_tasks_vector(suite):
    policy = Recorder()
    evaluate(policy, suite, ["train"], EVAL_CONFIG, ["none", "task_shuffle"])
    steps = len(policy.seen) // 2
    plain, shuffled = policy.seen[0][0], policy.seen[steps][0]
    torch.testing.assert_close(shuffled, plain.roll(1, 0))
    assert bool((shuffled != plain).any(1).all()), "no environment keeps its own task"


def test_shuffles_are_among_worlds_with_as_many_actuators():
    """Of a mixed suite: by a loop backwards through the worlds."""
    mixed = load_suite("mixed_speed")
    tasks, sizes = (
        mixed.tasks("train"),
        {"walker_speed": 6, "cheetah_speed": 6, "quadruped_speed": 12},
    )
    worlds = 3 * len(tasks)
    previous = evaluation.previous_worlds(mixed, tasks, worlds)
    bodies = [sizes[tasks[world % len(tasks)].family] for world in range(worlds)]
    for world in range(worlds):
        other = (world - 1) % worlds
        while bodies[other] != bodies[world]:
            other = (other - 1) % worlds
        assert previous[world] == other
        assert tasks[other % len(tasks)] != tasks[world % len(tasks)]


def test_a_bodys_only_task_is_not_shuffled():
    """Two walkers' tasks and one quadruped's: scores of shuffles are the walkers' alone."""
    plain = load_suite("mixed_speed").to_dict()
    chosen = [
        task
        for task in plain["splits"]["train"]
        if task["name"] in ("walker_1", "walker_2", "quadruped_1")
    ]
    few = type(load_suite("mixed_speed")).from_dict(
        {**plain, "splits": {"train": [{**task, "episode_length": 8} for task in chosen]}}
    )
    scores = evaluate(
        ZeroPolicy(few.action_size), few, ["train"], EVAL_CONFIG, ["none", "task_shuffle"]
    ).scores
    played = scores.groupby("intervention")["task"].agg(set).to_dict()
    walkers = {"walker_1", "walker_2"}
    assert played == {"none": walkers | {"quadruped_1"}, "task_shuffle": walkers}
    alone = replace(few, splits={"train": few.tasks("train")[1:]})
    scores = evaluate(
        ZeroPolicy(few.action_size), alone, ["train"], EVAL_CONFIG, ["none", "task_shuffle"]
    ).scores
    assert set(scores["intervention"]) == {"none"}


def test_high_level_actions_are_shuffled_at_decision_steps_and_stay_in_force(suite):
    policy = Recorder()
    evaluate(policy, suite, ["train"], EVAL_CONFIG, ["high_level_action_shuffle"])
    task, high_level_action = policy.seen[0]
    torch.testing.assert_close(high_level_action, task.roll(1, 0))
    for task_later, action_later in policy.seen:
        assert torch.equal(task_later, task), "the skills' own observation stays"
        assert torch.equal(action_later, high_level_action)


def test_flat_policies_have_no_high_level_actions_to_shuffle(suite):
    scores = evaluate(
        ZeroPolicy(2), suite, ["train"], EVAL_CONFIG, ["none", "high_level_action_shuffle"]
    ).scores
    assert set(scores["intervention"]) == {"none"}


def test_usage_is_the_mean_high_level_action(suite):
    result = evaluate(Recorder(), suite, ["train"], EVAL_CONFIG)
    for task in suite.tasks("train"):
        rows = result.usage[result.usage["task"] == task.name]
        np.testing.assert_allclose(
            rows["weight"].astype(float), np.array(task.parameters["target"]) / 0.3, rtol=1e-6
        )
    logged = metrics(result)
    assert logged["eval/train/return"] == pytest.approx(result.scores["return"].mean())
    assert f"skills/usage/{suite.tasks('train')[0].name}/0" in logged


def test_unknown_interventions_and_splits_are_refused(suite):
    with pytest.raises(
        ValueError, match="choose from none, high_level_action_shuffle, task_shuffle"
    ):
        evaluate(ZeroPolicy(2), suite, ["train"], EVAL_CONFIG, ["shuffle"])
    with pytest.raises(ValueError, match="interpolation"):
        evaluate(ZeroPolicy(2), suite, ["validation"], EVAL_CONFIG)


@pytest.mark.parametrize("per_round", [1, 2])
def test_progress_counts_every_episode_once(suite, per_round, monkeypatch):
    """Also where the last round has worlds to spare and a policy has nothing to shuffle."""
    monkeypatch.setattr(
        evaluation, "worlds_at_once", lambda suite, tasks, episodes: tasks * per_round
    )
    eval_config = replace(EVAL_CONFIG, episodes=3)
    names = ["none", "high_level_action_shuffle", "task_shuffle"]
    for policy, played in ((ZeroPolicy(2), 2), (Recorder(), 3)):
        ended: list[int] = []
        arguments = (policy, suite, ["train", "interpolation"], eval_config, names)
        scores = evaluate(*arguments, progress=ended.append).scores
        assert min(ended) > 0
        tasks = len(suite.tasks("train")) + len(suite.tasks("interpolation"))
        assert sum(ended) == len(scores) == count_episodes(*arguments) == 3 * tasks * played


def test_bodies_with_one_task_each_have_empty_shuffles():
    plain = load_suite("mixed_speed").to_dict()
    chosen = [
        {**task, "episode_length": 8}
        for task in plain["splits"]["train"]
        if task["name"] in ("walker_1", "quadruped_1")
    ]
    few = type(load_suite("mixed_speed")).from_dict({**plain, "splits": {"train": chosen}})
    arguments = (ZeroPolicy(few.action_size), few, ["train"], EVAL_CONFIG, ["task_shuffle"])
    found = evaluate(*arguments)
    assert found.scores.empty
    assert {"split", "task", "return", "intervention"} < set(found.scores.columns)
    assert count_episodes(*arguments) == 0


def test_shuffled_episodes_have_no_usage(suite):
    assert evaluate(Recorder(), suite, ["train"], EVAL_CONFIG, ["task_shuffle"]).usage.empty


def test_tasks_that_are_not_shuffled_have_no_mean_weights_but_raise_no_warning(suite):
    means = evaluation.HighLevelActionMeans(2)
    policy = Recorder()
    state = policy.initial_state(2) | {"high_level_action": torch.ones(2, 2)}
    means.add(policy, state, np.array([True, False]))
    assert means.table(suite.tasks("train")[:2], "train")["weight"].tolist() == [1, 1, 0, 0]


def test_a_task_shuffle_keeps_the_action_mask():
    """Two bodies with the same task vectors: each world still has the mask of its own body."""
    observation = Observation.of(
        {
            "pixels": torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
            "task": torch.tensor([[1.0], [2.0]]),
            "action_mask": torch.tensor([[True, False], [True, True]]),
        }
    )
    seen = []

    class Policy(ZeroPolicy):
        def act(self, observation, state, generator):
            seen.append(observation)
            return super().act(observation, state, generator)

    shuffle = evaluation._Shuffle("task_shuffle", torch.tensor([1, 0]))
    evaluation._act(Policy(2), observation, {}, shuffle)
    for name, value in seen[0]._asdict().items():
        expected = value.flip(0) if name == "task" else value
        assert torch.equal(expected, getattr(observation, name))
