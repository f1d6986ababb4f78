"""Fine-tuning runs as a user lives them: what they keep, what they refuse, exact continuation."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from envs import load_suite
from envs.resources import CONFIG_DIR
from hrl.cli import main
from hrl.config import ConfigError, load
from hrl.run.acting import load_policy
from hrl.run.checkpoints import Checkpoints
from hrl.run.finetune import FinetuneRequest, compose_finetune, refuse_misfit, target_suite
from hrl.run.finetune_source import read_source
from hrl.run.load import load_run
from hrl.run.train import train
from tests.hrl.same import assert_same

SCRIPT = CONFIG_DIR.parent / "scripts" / "finetune.py"
QUIET = ["tracking.wandb=disabled", "tracking.tensorboard=false", "tracking.videos=0"]
QUIET += ["tracking.progress=false", "threads=1", "device=cpu"]
SMALL = ["agent.sequence_length=4", "agent.batch_size=4", "agent.replay_capacity=400"]
SMALL += ["agent.train_ratio=0.5", "agent.actor_critic_start=1"]


def make_source(folder: Path, agent: str, *more: str) -> Path:
    """A run of 256 frames on the debug suite."""
    settings = [f"agent={agent}", "suite=debug", "size=debug", f"folder={folder}", "frames=256"]
    return train(load([*settings, "evaluation.every=0", *QUIET, *more]), "a test")


@pytest.fixture(scope="module")
def skills(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("skills") / "run", "skills")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("flat") / "run", "ppo")


def arguments(source: Path, folder: Path, *more: str) -> list[str]:
    given = [f"from={source}", "task=south_far", f"folder={folder}", "frames=512"]
    return [*given, "evaluation.every=256", *more]


def tune(source: Path, folder: Path, *more: str) -> Path:
    assert main(["finetune", *arguments(source, folder, *more)]) == 0
    return folder


def last_state(folder: Path) -> dict:
    checkpoint = Checkpoints(folder / "checkpoints").load_latest()
    assert checkpoint is not None
    return checkpoint.state


@pytest.fixture(scope="module")
def tuned(skills, tmp_path_factory):
    """A manager and its values trained further for a far target."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return tune(skills, folder, "parts=manager_value")


def test_a_run_says_what_it_started_from_and_inherits_the_rest(skills, tuned):
    source, config = (yaml.safe_load((run / "config.yaml").read_text()) for run in (skills, tuned))
    record = config["finetune"]
    policy = skills / "policy.safetensors"
    assert len(record["source_sha256"]) == 64
    shown = subprocess.run(["sha256sum", policy], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[0] == record["source_sha256"]
    assert record["source_frames"] == 256
    assert (record["source_suite"], record["target"]) == ("debug", "south_far")
    assert record["preset"] == "manager_value"
    assert record["parts"] == {
        "encoder": "frozen",
        "manager": "trainable",
        "low_level": "frozen",
        "values": "trainable",
    }
    assert config["method"] == "skills-manager_value"
    assert config["agent"] == source["agent"]
    assert config["network"] == source["network"]
    assert [task["name"] for task in config["suite"]["splits"]["train"]] == ["south_far"]
    assert "finetune" not in source, "other runs say nothing of it"


def test_frozen_parts_keep_the_bits_of_the_source_and_the_others_do_not(skills, tuned):
    before, after = (load_run(run).policy.state_dict() for run in (skills, tuned))
    same = {name.split(".")[0] for name, old in before.items() if torch.equal(old, after[name])}
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder", "task", "skills"} <= same - changed
    assert {"manager", "manager_critic", "skill_critic"} <= changed


def test_it_is_evaluated_before_it_learns_and_counts_what_is_trained(tuned):
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    assert [line["frames"] for line in lines] == [0, 256, 512]
    assert all("eval/train/return/south_far" in line for line in lines)
    parameters = json.loads((tuned / "environment.json").read_text())["parameters"]
    assert parameters["encoder"] == parameters["skills"] == 0
    assert parameters["manager"] > 0
    learning = ("manager", "manager_critic", "skill_critic")
    assert parameters["total"] == sum(parameters[name] for name in learning)


def test_forgetting_is_of_the_sources_tasks_before_and_after(skills, tuned):
    """Before: what an evaluation of the source itself plays."""
    table = pd.read_csv(tuned / "forgetting.csv")
    counts = table.groupby(["frames", "task"]).size()
    names = [task.name for task in load_suite("debug").tasks("train")]
    assert counts.to_dict() == {(frames, name): 1 for frames in (0, 512) for name in names}
    assert main(["evaluate", str(skills), "--splits=train", "--videos=0"]) == 0
    scores = pd.read_csv(skills / "scores.csv")
    before = table[table["frames"] == 0]
    assert before["return"].tolist() == scores["return"].tolist()
    assert before["return"].tolist() != table[table["frames"] == 512]["return"].tolist()


@pytest.mark.parametrize("damage", [b"\xff\x00", b"frames,task\n0,a"])
def test_a_damaged_table_of_what_was_forgotten_is_made_again(skills, tuned, damage):
    table = tuned / "forgetting.csv"
    before = table.read_bytes()
    table.write_bytes(damage)
    assert main(["finetune", *arguments(skills, tuned, "parts=manager_value")]) == 0
    assert table.read_bytes() == before


def test_it_is_loaded_evaluated_and_filmed_like_any_other(tuned, tmp_path):
    policy = load_policy(tuned)
    env = policy.make_env()
    action = policy.act(env.reset()[0], done=True)
    assert action.shape == env.action_space.shape == (2,)
    env.close()
    assert main(["evaluate", str(tuned), "--episodes=1", "--videos=0"]) == 0
    scores = pd.read_csv(tuned / "scores.csv")
    assert set(scores["task"]) == {"south_far"}
    assert set(scores["method"]) == {"skills-manager_value"}
    assert main(["play", str(tuned), "--steps=2", f"--out={tmp_path}"]) == 0
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["train_south_far.mp4"]


@pytest.mark.slow
def test_a_run_that_was_killed_between_checkpoints_ends_the_same(skills, tuned, tmp_path):
    """Its process is gone after the first checkpoint, with a line of metrics more."""
    folder = tmp_path / "run"
    original = Checkpoints.save

    def save_and_die(self, *saved):
        original(self, *saved)
        with open(folder / "metrics.jsonl", "a") as lost:
            lost.write('{"frames": 300}\n')
        raise KeyboardInterrupt

    settings = ["parts=manager_value", "checkpoint_every=256"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_die)
        assert main(["finetune", *arguments(skills, folder, *settings)]) == 130
    assert not (folder / "forgetting.csv").exists()
    tune(skills, folder, *settings)
    assert (folder / "metrics.jsonl").read_bytes() == (tuned / "metrics.jsonl").read_bytes()
    assert_same(last_state(folder), last_state(tuned))
    forgotten = [pd.read_csv(run / "forgetting.csv") for run in (folder, tuned)]
    pd.testing.assert_frame_equal(*forgotten)


@pytest.mark.slow
def test_killed_at_any_moment_and_continued_it_ends_the_same(skills, tmp_path):
    settings = ["parts=heads", "frames=1024", "checkpoint_every=256"]
    whole = tune(skills, tmp_path / "whole", *settings)
    folder = tmp_path / "parts"
    command = [sys.executable, str(SCRIPT), *arguments(skills, folder, *settings)]
    for wait in (0.0, 0.3, 0.6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log, deadline = folder / "metrics.jsonl", time.monotonic() + 120
        while process.poll() is None and not log.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same(last_state(folder), last_state(whole))


@pytest.mark.slow
def test_replay_and_optimizer_of_a_world_model_begin_anew(tmp_path):
    """Its actors learn from the first update, because the model is there already."""
    source = make_source(tmp_path / "source", "director", *SMALL)
    folder = tune(source, tmp_path / "run", "parts=low_level", "frames=256")
    before, after = last_state(source), last_state(folder)
    assert after["learner"]["updates"] == before["learner"]["updates"] > 0
    rows = [state["learner"]["replay"]["rows"]["task"] for state in (before, after)]
    assert not torch.equal(torch.cat(rows[0]).unique(dim=0), torch.cat(rows[1]).unique(dim=0))
    assert len(torch.cat(rows[1]).unique(dim=0)) <= 2, "of one task, and rows not yet written"
    assert yaml.safe_load((folder / "config.yaml").read_text())["agent"]["actor_critic_start"] == 0
    for name, old in before["policy"].items():
        same = torch.equal(old, after["policy"][name])
        if name.startswith(("world_model.rssm", "goals", "manager")):
            assert same, name
        if name.startswith("world_model.reward_net.dense.layers.1"):
            assert not same, name


def test_a_changed_source_and_other_parts_are_refused(skills, tuned, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(skills, other)
    again = arguments(other, tuned, "parts=manager_value")
    assert main(["finetune", *again]) == 0, "a source may move"
    checkpoints = Checkpoints(other / "checkpoints")
    saved = checkpoints.load_latest()
    checkpoints.save(saved.frames + 256, saved.state, saved.metadata)  # as more training would
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tuned.glob("*.*")}
    assert main(["finetune", *again]) == 2
    assert "finetune.source_sha256" in capsys.readouterr().err
    for parts in (["parts=manager"], ["parts=manager_value", "parts.encoder=trainable"]):
        assert main(["finetune", *arguments(skills, tuned, *parts)]) == 2
        assert "finetune.parts." in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tuned.glob("*.*")} == before


def _source_overrides(folder: Path) -> list[str]:
    settings = ["agent=skills", "suite=debug", "size=debug", f"folder={folder}"]
    return [*settings, "evaluation.every=0", *QUIET]


def test_training_does_not_continue_a_fine_tuning_run(tuned, capsys):
    assert main(["train", *_source_overrides(tuned), "frames=1024"]) == 2
    assert "finetune.parts.encoder: 'frozen' in the run" in capsys.readouterr().err
    assert main(["train", "finetune={preset:all}", "suite=debug"]) == 2
    assert "pixel-hrl finetune" in capsys.readouterr().err


@pytest.mark.slow
def test_a_split_of_another_suite_is_learned_by_a_new_manager(skills, tmp_path):
    folder = tmp_path / "run"
    given = [f"from={skills}", "suite=point_mass", "task=extrapolation_far", f"folder={folder}"]
    given += ["frames=256", "evaluation.every=0", "evaluation.final_episodes=1"]
    given += ["parts=manager_value", "parts.manager=reinitialised", "parts.values=reinitialised"]
    suite = tmp_path / "configs" / "suite" / "short.yaml"
    suite.parent.mkdir(parents=True)
    text = (CONFIG_DIR / "suite" / "point_mass.yaml").read_text().replace("1000,", "40,")
    suite.write_text(text.replace("name: point_mass\n", "name: short\n"))
    given[1] = "suite=short"
    assert main(["finetune", *given, f"--config-dir={suite.parents[1]}"]) == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["method"] == "skills-manager_value-manager-reinitialised-values-reinitialised"
    assert config["suite"]["name"] == "short"
    assert len(config["suite"]["splits"]["train"]) == 3
    assert set(pd.read_csv(folder / "forgetting.csv")["task"]) == {
        task.name for task in load_suite("debug").tasks("train")
    }


def test_a_task_of_one_of_several_bodies_keeps_its_task_vector():
    """The others stay in the suite, because the vector tells bodies apart by their order."""
    suite = load_suite("mixed_speed")
    target = target_suite(FinetuneRequest(Path("run"), "quadruped_3"), suite)
    assert [task.name for task in target.tasks("train")] == ["quadruped_3"]
    refuse_misfit(suite, target)
    (task,) = target.tasks("train")
    assert np.array_equal(suite.family.task_vector(task), target.family.task_vector(task))
    turned = replace(suite, splits={"train": suite.tasks("train")[::-1]})
    with pytest.raises(ConfigError, match="the task vector names other bodies"):
        refuse_misfit(suite, turned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["parts=managers"], "parts is 'managers'; agent skills has the parts encoder, manager"),
        (["parts.worker=frozen"], "parts.worker: agent skills has no such part; its parts are enc"),
        (["parts.manager=thawed"], "'thawed'; choose from trainable, frozen, reinitialised"),
        (["parts=manager", "parts.manager=frozen"], "is frozen: nothing would learn"),
        (["task=moon"], "task is 'moon'; suite debug has no such split or task (it has train: no"),
        (["suite=moon"], "unknown suite 'moon'"),
        (["suite=moon", "task=moon"], "unknown suite 'moon'"),
        (["suite=walker_speed", "task=novel"], "actions of 2 numbers there and 6 here; the task"),
        (["network.hidden=[8]"], "network.hidden cannot be given: it is that of the run"),
        (["agent=ppo"], "agent cannot be given: it is that of the run"),
        (["framez=3"], "framez=3: unknown key; choose from"),
        (["agent.holdd=3"], "agent.holdd=3: unknown key; choose from clip, cuda_graph, discount"),
        (["frames=-3"], "frames is -3; it must be at least 1"),
        (["evaluation=null"], "evaluation=null: give a mapping of episodes, every, final_episodes"),
        (["agent.num_skills=3"], "it does not fit this agent"),
        (["agent.num_skills=1", "parts=manager"], "agent.num_skills is 1; with one skill the man"),
        (["from=nowhere"], "nowhere is not a run folder"),
        (["from="], "give from=..., the folder of a run"),
        (["task="], "give task=..., a task or split of the suite"),
        (["parts=all", "parts=heads"], "parts is given twice"),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_anything_is_written(
    changes, message, skills, tmp_path, capsys
):
    folder = tmp_path / "run"
    kept = {change.partition("=")[0] for change in changes}
    given = [text for text in arguments(skills, folder) if text.partition("=")[0] not in kept]
    assert main(["finetune", *given, *changes]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (folder / "config.yaml").exists()


def test_a_flat_agent_has_no_manager_to_train_or_freeze(flat, tmp_path, capsys):
    assert main(["finetune", *arguments(flat, tmp_path / "run", "parts=manager")]) == 2
    errors = capsys.readouterr().err
    assert "agent ppo has the parts encoder, policy, values and the presets all, full" in errors
    assert main(["finetune", *arguments(flat, tmp_path / "run", "parts.manager=frozen")]) == 2
    assert "agent ppo has no such part" in capsys.readouterr().err
    request = FinetuneRequest(flat, "south_far", preset="full")
    composed = compose_finetune(request, read_source(flat))
    assert composed.config.finetune.preset == "all", "full is another name of it"
    assert composed.config.folder == "runs/debug/finetune/south_far/ppo-all/seed_0"
    assert composed.config.frames == 100_000


@pytest.mark.parametrize(
    ("given", "episodes"),
    [
        (["evaluation.final_episodes=7"], (7, 7)),
        (["evaluation={every:0,final_episodes:7}"], (7, 7)),
        (["evaluation.final_episodes=7", "evaluation.episodes=2"], (2, 7)),
    ],
)
def test_evaluations_on_the_way_have_as_many_episodes_as_the_last(given, episodes, flat):
    composed = compose_finetune(
        FinetuneRequest(flat, "south_far", overrides=given), read_source(flat)
    )
    evaluation = composed.config.evaluation
    assert (evaluation.episodes, evaluation.final_episodes) == episodes


def test_a_mapping_changes_the_keys_that_it_names(flat):
    source = read_source(flat)
    whole = compose_finetune(FinetuneRequest(flat, "south_far"), source).config.tracking
    request = FinetuneRequest(flat, "south_far", overrides=["tracking={videos:9}"])
    assert compose_finetune(request, source).config.tracking == replace(whole, videos=9)
    request = FinetuneRequest(flat, "south_far", overrides=["tracking={video:9}"])
    with pytest.raises(ConfigError, match=r"unknown key; choose from .*videos"):
        compose_finetune(request, source)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run / "checkpoints"), "has no checkpoint to start from"),
        (
            lambda run: next((run / "checkpoints").glob("*.policy.*")).write_bytes(b"?"),
            "none of 1 checkpoints can be used",
        ),
        (
            lambda run: (run / "config.yaml").write_text(
                (run / "config.yaml").read_text().replace("format: 2", "format: 1")
            ),
            "version 0.1.0 of pixel-hrl reads it",
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(spoil, message, skills, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(skills, source)
    spoil(source)
    assert main(["finetune", *arguments(source, tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", ["sb3_ppo", "random"])
def test_agents_without_parts_are_refused_with_those_that_have_them(agent, tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    plain = load([f"agent={agent}", "suite=debug", "size=debug"]).plain
    (source / "config.yaml").write_text(yaml.safe_dump({"format": 2, **plain}))
    assert main(["finetune", f"from={source}", "task=centre"]) == 2
    errors = capsys.readouterr().err
    assert f"agent {agent} cannot be fine-tuned part by part" in errors
    assert "director, dreamer, ppo, skills" in errors


@pytest.mark.slow
def test_the_commands_of_the_page_work_at_debug_size(tmp_path, monkeypatch):
    """The first block of docs/finetuning.md, line by line, on the debug suite."""
    monkeypatch.chdir(tmp_path)
    page = (CONFIG_DIR.parent / "docs" / "finetuning.md").read_text()
    commands = page.split("```sh\n")[1].split("```")[0].replace("point_mass", "debug").splitlines()
    quick = {"train": ["size=debug", "frames=256", *QUIET], "finetune": ["frames=256"]}
    for command in commands:
        name, *given = shlex.split(command)[1:]
        if name == "report":
            random = ["agent=random", "suite=debug", "size=debug", "device=cpu"]
            assert main(["evaluate", *random]) == 0
        assert main([name, *given, *quick.get(name, [])]) == 0
    table = pd.read_csv("report/finetuning.csv")
    assert sorted(table["parts"]) == ["all", "manager_value", "scratch"]
    assert set(table["source_method"]) == {"skills", "ppo"}
    assert table["forgetting"].notna().all()
    assert "Fine-tuning" in Path("report/report.html").read_text()
