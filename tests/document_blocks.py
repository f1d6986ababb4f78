"""Read the code blocks of a page as steps, and take them at debug size."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.example_commands import SHORT

# A block begins at the margin, with its language and perhaps the name of the file that it is.
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
# What installs something, or belongs to another machine.
_NOT_RUN = {"pip", "uv", "docker", "git", "python3.11", "make", "cd", "ray", "case", "torchrun"}
_SMALL = {
    "suite=point_mass": "suite=debug",
    "runs/point_mass": "runs/debug",
    " experiment=demo": "",
    "/shared/": "shared/",
    "results/": f"{Path(__file__).resolve().parents[1]}/results/",
}
_OPTIONS = {**SHORT, "finetune": ["frames=256"], "study": ["rate_seconds=0", "--dry-run"]}
_PROGRAM = """
import sys
from pathlib import Path
from hrl.cli import main

names = {{}}
for kind, *content in {steps!r}:
    if kind == "file":
        path = Path(content[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content[1])
    elif kind == "python":
        exec(content[0], names)
    elif main(content):
        sys.exit(f"failed: {{content}}")
"""

Step = tuple[str, ...]


def steps_of(page: Path) -> list[Step]:
    """The files, programs and commands of a page, in their order.

    A step is ("file", name, text), ("python", code) or ("command", argument, ...).
    """
    steps: list[Step] = []
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["title"]:
            steps.append(("file", block["title"], block["code"]))
        elif block["language"] == "python":
            steps.append(("python", _small(block["code"])))
        elif block["language"] == "sh":
            steps += [("command", *words) for words in _commands(block["code"])]
    return steps


def run_steps(steps: list[Step], folder: Path) -> str:
    """Take the steps in one process, in a folder of their own; returns what they printed."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(steps=steps)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _commands(code: str) -> list[list[str]]:
    """The arguments of `pixel-hrl`, at debug size, of each line that calls it."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        line = line.removeprefix("srun ")
        words = shlex.split(line, comments=True)
        if not words or words[0] in _NOT_RUN:
            continue
        assert words[0] == "pixel-hrl", line
        found.append(_shortened(shlex.split(_small(line), comments=True)[1:]))
    return found


def _shortened(arguments: list[str]) -> list[str]:
    if "--help" in arguments:
        return arguments
    added = _OPTIONS.get(arguments[0], [])
    given = {word.partition("=")[0] for word in arguments}
    return arguments + [word for word in added if word.partition("=")[0] not in given]


def _small(text: str) -> str:
    for usual, small in _SMALL.items():
        text = text.replace(usual, small)
    return text
