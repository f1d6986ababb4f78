"""Read the commands that examples state at their tops, and shorten their runs."""

import ast
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
SHORT = {
    "train": [
        "size=debug",
        "frames=256",
        "threads=1",
        "evaluation.every=0",
        "checkpoint_every=1000000",
        "tracking.wandb=disabled",
        "tracking.tensorboard=false",
        "tracking.progress=false",
    ],
    "evaluate": ["--episodes=1", "--videos=0"],
    "suites": ["--episodes=1"],
}

PROGRAM = """
import runpy, sys
from hrl.cli import main

sys.path.insert(0, "examples")
for program, *arguments in {commands}:
    sys.argv = arguments
    if program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
    elif main(arguments):
        sys.exit(f"failed: {{arguments}}")
"""


def commands_of(example: Path) -> list[list[str]]:
    """The words of each command in the docstring: those lines that are indented."""
    text = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    ") and line.strip()]


def short_commands(example: Path) -> list[list[str]]:
    """The same commands at debug size, without those of the shell."""
    found = [words for words in commands_of(example) if words[0] in ("pixel-hrl", "python")]
    return [words if "--help" in words else _shortened(words) for words in found]


def run_commands(
    python: Path, commands: list[list[str]], folder: Path, variables: Mapping[str, str]
) -> str:
    """Run commands in one process, in a folder that gets a copy of the examples.

    Returns:
        What they printed.
    """
    shutil.copytree(ROOT / "examples", folder / "examples")
    path = ":".join(["examples", *filter(None, [variables.get("PYTHONPATH")])])
    done = subprocess.run(
        [python, "-c", PROGRAM.format(commands=commands)],
        cwd=folder,
        env={**variables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _shortened(words: list[str]) -> list[str]:
    return words + (SHORT.get(words[1], []) if words[0] == "pixel-hrl" else [])
