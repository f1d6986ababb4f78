"""The subcommands as a user calls them: a small run trained, evaluated, recorded, reported on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pandas as pd
import pytest
import torch

from envs.resources import CONFIG_DIR
from hrl.cli import COMMANDS, main
from hrl.cli.main import run_or_explain

SCRIPTS = CONFIG_DIR.parent / "scripts"
DICT_ENV = "gym/tests.envs.external_fakes:DictCounter-v0"


def call(command: str, *arguments: object) -> None:
    """Run a subcommand in this process."""
    assert main([command, *map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A demonstration in miniature: both methods trained, evaluated, random play, the report."""
    out = tmp_path_factory.mktemp("demo")
    settings = [
        "suite=debug",
        "size=debug",
        "frames=256",
        "tracking.wandb=disabled",
        "evaluation.every=0",
        "threads=1",
    ]
    for method in ("skills", "ppo"):
        call("train", f"agent={method}", f"folder={out / method}", *settings)
    call("evaluate", out / "skills", out / "ppo", "--episodes=1")
    call("evaluate", "agent=random", *settings, f"folder={out / 'random'}", "--episodes=1")
    return out


def test_evaluation_covers_every_split_and_shuffle(folder):
    scores = pd.read_csv(folder / "skills" / "scores.csv")
    assert set(scores["split"]) == {"train", "interpolation", "extrapolation_far"}
    shuffled = {
        agent: set(pd.read_csv(folder / agent / "shuffled_scores.csv")["intervention"])
        for agent in ("skills", "ppo")
    }
    assert shuffled == {
        "skills": {"high_level_action_shuffle", "task_shuffle"},
        "ppo": {"task_shuffle"},
    }
    usage = pd.read_csv(folder / "skills" / "skill_usage.csv")
    sums = usage.groupby(["split", "task"])["weight"].sum()
    assert sums.between(1 - 1e-6, 1 + 1e-6).all()
    assert list((folder / "skills" / "videos").glob("*.mp4"))


def test_a_split_evaluated_again_leaves_the_others(folder, capsys):
    path = folder / "ppo" / "scores.csv"
    before = path.read_bytes()
    call("evaluate", folder / "ppo", "--episodes=1", "--splits=interpolation", "--videos=0")
    assert path.read_bytes() == before
    again = ["--episodes=2", "--splits=interpolation", "--videos=0"]
    assert main(["evaluate", str(folder / "ppo"), *again]) == 2
    errors = capsys.readouterr().err
    assert "episodes 1 there and 2 now" in errors
    assert path.read_bytes() == before


def test_a_run_that_cannot_be_evaluated_leaves_the_others(folder, tmp_path, capsys):
    runs = tmp_path / "runs"
    shutil.copytree(folder / "ppo", runs / "ppo")
    (runs / "ppo" / "scores.csv").unlink()
    shutil.copytree(folder / "ppo", runs / "broken")
    shutil.rmtree(runs / "broken" / "checkpoints")
    (runs / "broken" / "policy.safetensors").unlink(missing_ok=True)
    more = ["--episodes=1", "--splits=interpolation", "--videos=0"]
    assert main(["evaluate", str(tmp_path / "run*"), *more]) == 2
    errors = capsys.readouterr().err
    assert f"error: 1 of 2 runs were not evaluated:\n  {runs / 'broken'}: " in errors
    assert (runs / "ppo" / "scores.csv").exists()


@pytest.mark.parametrize("command", ["evaluate", "play"])
@pytest.mark.parametrize(
    ("device", "message"),
    [("toaster", "choose from auto, cpu, cuda"), ("cuda:99", "it cannot be used here")],
)
def test_a_device_that_cannot_be_used_is_one_line(command, device, message, folder, capsys):
    assert main([command, str(folder / "ppo"), f"--device={device}"]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", ["evaluate", "play"])
def test_settings_beside_a_run_are_refused_before_it_is_played(command, folder, capsys):
    before = {path: path.read_bytes() for path in (folder / "ppo").glob("*.*")}
    assert main([command, str(folder / "ppo"), "evaluation.final_episodes=2"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert (
        "evaluation.final_episodes=2 is for agent=random or agent=zero with suite=NAME" in message
    )
    assert {path: path.read_bytes() for path in (folder / "ppo").glob("*.*")} == before


def test_a_policy_that_learns_nothing_overwrites_no_other_run(folder, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (folder / "ppo").glob("*.*")}
    chosen = ["agent=random", "suite=debug", "--episodes=1", "--videos=0"]
    assert main(["evaluate", *chosen, f"folder={folder / 'ppo'}"]) == 2
    assert "holds a run of agent ppo, not of random" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (folder / "ppo").glob("*.*")} == before
    (tmp_path / "thesis.tex").touch()
    assert main(["evaluate", *chosen, f"folder={tmp_path}"]) == 2
    assert "holds thesis.tex; name another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_report_is_one_file_with_a_summary(folder, capsys):
    out = folder / "report"
    call("report", folder / "skills", folder / "ppo", folder / "random", "--out", out)
    printed = capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "skills" in printed
    assert "differs between these methods" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["methods"]) == {"skills", "ppo", "random"}
    cell = summary["methods"]["ppo"]["train"]
    expected = pd.read_csv(folder / "ppo" / "scores.csv").query("split == 'train'")
    assert cell["return_mean"] == pytest.approx(expected["return"].mean())
    assert cell["episodes"] == len(expected)
    assert list((out / "figures").glob("*.png"))
    assert list((out / "figures").glob("*.pdf"))


def test_play_records_a_video_per_task(folder, tmp_path, capsys):
    call("play", folder / "skills", "--steps=5", f"--out={tmp_path}")
    printed = capsys.readouterr().out
    videos = [line for line in printed.splitlines() if line.endswith(".mp4")]
    assert len(videos) == len(list(Path(tmp_path).glob("train_*.mp4"))) == 3
    before = printed[: printed.index(videos[0])]
    assert "simulation and rendering" in before, "memory is said before it is taken"
    more = ["--splits=train,interpolation", "--size=480", f"--out={tmp_path / 'zero'}"]
    call("play", "agent=zero", "suite=debug", "--steps=3", *more)
    videos = list((tmp_path / "zero").iterdir())
    assert len(videos) == 4
    width, height = next(imageio_ffmpeg.read_frames(str(videos[0])))["size"]
    assert width == 480
    assert height >= 480


@pytest.mark.parametrize(
    "arguments",
    [
        ["play", "agent=zero", "suite=debug", "--out=FILE"],
        ["report", "RUN", "--out=FILE"],
        ["suites", "debug", "--out=FILE/pages"],
        ["suites", "debug", "--reference-scores=FILE"],
        ["train", "agent=ppo", "suite=debug", "size=debug", "folder=FILE"],
        ["evaluate", "agent=zero", "suite=debug", "folder=FILE/run"],
    ],
)
def test_a_file_where_a_folder_is_expected_is_one_line(arguments, tmp_path, capsys):
    file = tmp_path / "notes"
    file.touch()
    assert main([text.replace("FILE", str(file)) for text in arguments]) == 2
    errors = capsys.readouterr().err
    assert f"{file} is a file, not a folder" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_scripts_are_the_subcommands(command, capsys):
    script = [sys.executable, str(SCRIPTS / f"{command}.py"), "--help"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    call(command, "--help")
    assert done.stdout == capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", ["agent.skill_duration=4", "agent.holdd=3"], "holdd"),
        ("train", ["seed=0,1"], "for seed in 0 1; do pixel-hrl train seed=$seed; done"),
        ("train", ["-m", "size=xs,s"], "for size in xs s; do pixel-hrl train size=$size; done"),
        ("train", ["suite=glob(*)"], "suite=glob(*) asks for several runs; one command is one run"),
        ("train", ["experiment=null"], "experiment is 'null'; choose from demo"),
        ("train", ["size=null"], "size is 'null'; choose from 12m"),
        ("train", ["suite=gym/..:X-v0"], "the module '..' of environment '..:X-v0' cannot be"),
        ("train", [f"suite={DICT_ENV}", "size=debug"], "observes a Dict of 'goal', 'proprio'"),
        ("evaluate", ["agent=random", f"suite={DICT_ENV}"], "observes a Dict of 'goal', 'proprio'"),
        ("play", ["agent=zero", f"suite={DICT_ENV}"], "observes a Dict of 'goal', 'proprio'"),
        ("suites", [DICT_ENV], "observes a Dict of 'goal', 'proprio'"),
        ("train", ["hydra.run.dir=foo"], "the folder of a run is folder=DIR"),
        ("train", ["folder=runs/größe"], "quote the value: 'folder=\"runs/größe\"'"),
        ("train", ["--frames=3"], "the options are --help, --config-dir, --import, --print-config"),
        ("train", ["nonsense"], "give KEY=VALUE"),
        ("evaluate", [], "give run folders"),
        ("evaluate", ["nowhere"], "nowhere"),
        ("evaluate", ["agent=ppo"], "give the folder of a run"),
        ("evaluate", ["agent=random", "seed=0,1"], "do pixel-hrl evaluate agent=random seed=$seed"),
        (
            "evaluate",
            ["agent=zero", "suite=debug", "--episodes=100000000"],
            "of memory and may take",
        ),
        ("play", ["agent=zero", "suite=debug", "--steps=100000000"], "of memory and may take"),
        ("play", ["agent=zero", "suite=debug", "--splits=far"], "choose from train"),
        (
            "play",
            ["agent=zero", "suite=debug", "--size=2000"],
            "it must be even, and from 16 to 1024",
        ),
        ("play", ["agent=random", "--stepps=3"], "the options are --help"),
        ("benchmark", ["speed"], "choose from env, learner"),
        ("benchmark", ["learner", "--iterations=0"], "it must be at least 1"),
        ("benchmark", ["env", "--seconds=0"], "it must be above 0"),
        ("benchmark", ["env", "--num-envs=100000000"], "of memory and may take"),
        ("benchmark", ["replay", "--batch=100000000"], "of memory and may take"),
        ("benchmark", ["update", "num_envs=100000000"], "of memory and may take"),
        ("benchmark", ["update", "--peer=nowhere"], "nowhere is not a checkout of r2dreamer"),
        ("benchmark", ["env", "--updates=3"], "--updates is not an option of benchmark env"),
        ("benchmark", ["env", "suite=debug"], "takes device=NAME alone"),
        ("benchmark", ["env", "--worlds=4"], "--worlds is not an option of benchmark env"),
        ("benchmark", ["env", "device=cpu", "--num-envs=4"], "has --suites, --worlds, --seconds"),
        ("benchmark", ["env", "device=cpu", "--worlds=4,0"], "it must be at least 1"),
        ("benchmark", ["env", "device=cpu", "--suites=ant_maze"], "physics=mujoco can"),
        ("benchmark", ["env", "device=cpu", "--suites=mixed_speed"], "has several bodies"),
        ("benchmark", ["env", "device=npu"], "it cannot be used here"),
        ("benchmark", ["learner", "agent=dreamer"], "pixel-hrl benchmark update agent=dreamer"),
        ("report", [], "no run folder was given"),
        ("report", ["nowhere"], "nowhere: no run folder there"),
        ("suites", ["nowhere"], "unknown suite 'nowhere'"),
        ("train", ["--config-dir=nowhere"], "does not exist"),
        ("train", ["--import=nowhere"], "No module named 'nowhere'"),
        ("fly", [], "choose from train, finetune, evaluate, study"),
    ],
)
def test_mistakes_are_one_line(command, arguments, message, capsys):
    assert main([command, *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        MemoryError("Unable to allocate 9 GiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_is_one_line(error, capsys):
    def fail():
        raise error

    assert run_or_explain(fail) == 2
    assert capsys.readouterr().err == f"error: not enough memory: {error}\n"
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run_or_explain(lambda: (_ for _ in ()).throw(RuntimeError("a fault of ours")))


@pytest.mark.parametrize("command", ["train", "evaluate", "play", "report"])
def test_a_run_folder_without_a_readable_configuration_is_named(command, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    (tmp_path / "scores.csv").touch()
    new = ["agent=ppo", "suite=debug", "size=debug", f"folder={tmp_path}"]
    arguments = new if command == "train" else [str(tmp_path)]
    contents = (b"", b"- a", b"text", b"\x00", b"a: &x [*x]")
    for content in contents[:2] if command == "train" else contents:
        config.write_bytes(content)
        assert main([command, *arguments]) == 2
        assert str(config) in capsys.readouterr().err
