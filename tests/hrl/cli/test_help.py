"""The help of the console command: quick, complete, and from the dataclasses."""

import os
import signal
import subprocess
import sys
from dataclasses import fields

import pytest

import hrl
from hrl.cli import COMMANDS, main
from hrl.config import RunConfig, load

SLOW_MODULES = {"torch", "mujoco", "numpy", "pandas", "hydra", "envs"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_options(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"usage: pixel-hrl {command}" in printed
    assert "--config-dir" in printed
    assert "--import" in printed


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_help_imports_nothing_slow(arguments):
    code = f"import sys; from hrl.cli import main; main({arguments}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SLOW_MODULES.isdisjoint(done.stdout.splitlines()[-1].split())


def test_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pixel-hrl {hrl.__version__}\n"


def test_help_of_an_agent_lists_every_key_with_its_value_and_range(capsys):
    assert main(["train", "agent=skills", "agent.skill_duration=3", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    keys = {line.split("=")[0] for line in lines if not line.startswith(" ")}
    config = load(["agent=skills"]).config
    first = {".".join(key.split(".")[:2]) for key in keys if key.startswith("agent.")}
    assert first == {f"agent.{field.name}" for field in fields(config.agent)} - {"agent.name"}
    declared = {field.name for field in fields(RunConfig)}
    assert declared - {"imports", "finetune"} <= {key.split(".")[0] for key in keys}
    assert "agent.skill_duration=3" in lines
    assert lines[lines.index("seed=0") + 1].startswith("    seed of the run (at least 0")


def test_a_reader_that_leaves_ends_the_command_without_a_word():
    program = "import sys; from hrl.cli import main; sys.exit(main(['train', '--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
