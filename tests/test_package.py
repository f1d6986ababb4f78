"""The wheel, installed without the checkout, trains, evaluates and reports as the checkout does."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hrl
from hrl.cli import main
from tests.example_commands import EXAMPLES, ROOT, run_commands, short_commands

SETTINGS = [
    "agent=ppo",
    "suite=point_mass",
    "size=debug",
    "frames=256",
    "tracking.wandb=disabled",
    "evaluation.every=0",
    "threads=1",
]
COMMANDS = [
    ["train", *SETTINGS, "folder=run"],
    ["evaluate", "run", "--episodes=1", "--splits=train", "--videos=0"],
    ["report", "run"],
]
PROGRAM = f"""
import sys
import envs, hrl.config
from hrl.cli import main
assert hrl.config.load(["agent=ppo"])[0].agent.name == "ppo"
assert envs.load_suite("point_mass").name == "point_mass"
assert envs.load_suite("maze_many_point").splits  # whose layouts are files of the package
sys.exit(max(main(command) for command in {COMMANDS}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, from a copy of the sources, so that nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("configs", "envs", "hrl"):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The summary that the checkout's commands write."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert [main(command) for command in COMMANDS] == [0, 0, 0]
    return results(folder)


def pip(python, *arguments):
    command = [python, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=without_sources()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def without_sources():
    """The environment variables, but for folders that sources would be imported from."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def results(folder):
    """Scores as they were written, and the normalised ones of the report."""
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["methods"]["ppo"]["train"]
    return (folder / "run" / "scores.csv").read_text(), summary["methods"]


def installed_results(venv, folder):
    """What the installed package writes in an empty folder."""
    place = {"cwd": folder, "env": without_sources(), "capture_output": True, "text": True}
    version = subprocess.run([venv / "bin" / "pixel-hrl", "--version"], check=True, **place)
    assert version.stdout == f"pixel-hrl {hrl.__version__}\n"
    done = subprocess.run([venv / "bin" / "python", "-c", PROGRAM], check=False, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    where = [venv / "bin" / "python", "-c", "import envs.resources as r; print(r.CONFIG_DIR)"]
    printed = subprocess.run(where, check=True, **place).stdout
    assert Path(printed.strip()).is_relative_to(venv.resolve())
    return results(folder)


@pytest.fixture(scope="module")
def borrowing_venv(wheel, tmp_path_factory):
    """An environment with the wheel that borrows this one's dependencies, but not its package."""
    venv = tmp_path_factory.mktemp("borrowing") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip(sys.executable, "--python", venv / "bin" / "python", "install", "--no-deps", wheel)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = venv / "lib" / version / "site-packages"
    borrowed = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return venv


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_works_without_the_checkout(borrowing_venv, expected, tmp_path):
    (tmp_path / "empty").mkdir()
    assert installed_results(borrowing_venv, tmp_path / "empty") == expected


@pytest.mark.slow
def test_every_command_of_the_examples_works_from_the_wheel(borrowing_venv, tmp_path):
    """At debug size, in a folder with nothing but the examples."""
    commands = [words for path in EXAMPLES for words in short_commands(path)]
    printed = run_commands(borrowing_venv / "bin" / "python", commands, tmp_path, without_sources())
    assert "return of one episode:" in printed
    runs = {path.parent.name for path in (tmp_path / "runs").rglob("scores.csv")}
    assert runs == {"docking", "pointer", "a2c", "ring"}
    assert (tmp_path / "runs" / "pages" / "ring.md").exists()


@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_a_whole_installation_works(wheel, expected, tmp_path):
    """The commands of the Dockerfile, with every dependency from the package index."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip(venv / "bin" / "python", "install", "--constraint", ROOT / "constraints.txt", wheel)
    (tmp_path / "empty").mkdir()
    assert installed_results(venv, tmp_path / "empty") == expected
