"""Name the files of a run folder, lock it, and refuse one that this version cannot read."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hrl.run.atomic_files import remove_abandoned, write_text_atomic
from hrl.run.errors import FolderError

FORMAT = 2
"""Number of the present format of run folders, written into `config.yaml` as `format`."""

READABLE_BY = {1: "0.1.0"}
"""Last version of this project that reads each older format."""


_DEEPEST = 50
"""Mappings and lists within each other that a configuration may have."""


class RunFolder:
    """Name the files of one run.

    Args:
        path: the folder, which need not exist.

    Attributes:
        config: the resolved configuration, with the format of the folder.
        environment: what produced the run: command, code revision, versions, hardware.
        metrics: metrics by control step, one JSON object a line.
        timing: training time by control step, one JSON object a line.
        learning_curves: thinned metrics and timing of an archived run, in place of both.
        checkpoints: folder of checkpoints.
        policy: the newest policy, which is all that acting needs.
        evaluation: how the episodes of the scores were played.
        scores: one row an episode.
        shuffled_scores: one row an episode of the shuffle tests.
        skill_usage: mean weight of each skill by task.
        forgetting: of a fine-tuning run, one row an episode of the source's training tasks, before
            (0 frames) and after.
        open_loop_error: errors of a world model's predictions.
        goal_reaching: how far from its goals a worker ends.
        goal_distance: how far goals are from states that were met.
        videos: folder of MP4 files.
        play: folder of the videos of `pixel-hrl play`.
        tensorboard: folder of TensorBoard events.
        wandb: folder of W&B's own files.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = expanded(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.timing = self.path / "timing.jsonl"
        self.learning_curves = self.path / "learning_curves.csv"
        self.checkpoints = self.path / "checkpoints"
        self.policy = self.path / "policy.safetensors"
        self.evaluation = self.path / "evaluation.json"
        self.scores = self.path / "scores.csv"
        self.shuffled_scores = self.path / "shuffled_scores.csv"
        self.skill_usage = self.path / "skill_usage.csv"
        self.forgetting = self.path / "forgetting.csv"
        self.open_loop_error = self.path / "open_loop_error.csv"
        self.goal_reaching = self.path / "goal_reaching.csv"
        self.goal_distance = self.path / "goal_distance.csv"
        self.videos = self.path / "videos"
        self.play = self.path / "play"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb"

    def __str__(self) -> str:
        return str(self.path)

    def video(self, frames: int, task: str) -> Path:
        """Return the file of the video of a task after so many control steps."""
        return self.videos / f"{frames:09d}_{task}.mp4"

    def nonfinite(self, stamp: int, rank: int = 0) -> Path:
        """Return the file that keeps what led to a quantity that is not finite, by its rank."""
        name = f"nonfinite_{stamp}.rank_{rank}" if rank else f"nonfinite_{stamp}"
        return self.path / f"{name}.safetensors"

    def write_config(self, plain: Mapping[str, Any]) -> None:
        """Write the plain configuration of the run with the format of its folder."""
        content = yaml.safe_dump({"format": FORMAT, **plain}, sort_keys=False)
        write_text_atomic(self.config, content)

    def read_config(self) -> dict[str, Any]:
        """Return the plain configuration of the run.

        Raises:
            FolderError: there is no run, its configuration is no YAML or no mapping, or it has
                another format.
        """
        if not self.config.exists():
            raise FolderError(f"{self.path} is not a run folder: it has no {self.config.name}")
        try:
            saved = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise FolderError(f"{self.config} holds no YAML: {reason}") from error
        if not isinstance(saved, dict):
            raise FolderError(f"{self.config} holds no configuration: it is not a mapping of keys")
        _refuse_circles(self.config, saved)
        check_format(self.config, saved.pop("format", 1))
        return {str(key): value for key, value in saved.items()}

    def holds_run(self) -> bool:
        """Return whether a run was started here.

        Raises:
            FolderError: the folder holds something else, or is a file.
        """
        refuse_file(self.path)
        if self.config.exists():
            return True
        others = sorted(
            entry.name
            for entry in self._entries()
            if not entry.name.startswith((".", "nonfinite_")) and entry != self.play
        )
        if others:
            raise FolderError(
                f"{self.path} is not a run folder, yet holds {', '.join(others[:5])}; name another"
            )
        return False

    @contextmanager
    def lock(self) -> Iterator[FolderWatch]:
        """Hold the folder's lock for the block, so that two processes never write one run.

        Raises:
            FolderError: another process holds it, or the file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / ".lock"
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderError(f"{self.path} is being written by another process") from error
            except OSError as error:
                raise FolderError(
                    f"{path} cannot be locked ({error.strerror}), so nothing keeps two processes "
                    "from writing one run; name a folder on a file system with locks"
                ) from error
            self.remove_abandoned()
            yield FolderWatch(self.path, path, file.fileno())

    @contextmanager
    def watch(self) -> Iterator[FolderWatch]:
        """Watch the folder during the block without locking it; it must exist."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            yield FolderWatch(self.path, self.path, descriptor)
        finally:
            os.close(descriptor)

    def remove_abandoned(self) -> None:
        """Remove temporary files of killed processes; those still being written stay."""
        for folder in (self.path, self.videos, self.play):
            remove_abandoned(folder, "*")

    def is_locked(self) -> bool:
        """Return whether another process is writing the run now.

        Where a file system has no locks, or the file cannot be opened, nobody knows: False.
        """
        try:
            with open(self.path / ".lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.exists() else []


class FolderWatch:
    """Tell whether a folder is still the one that its path named at first.

    Args:
        folder: the folder.
        path: the folder itself or a file in it.
        descriptor: of `path`, open, so that the system gives its number to nothing else.
    """

    def __init__(self, folder: Path, path: Path, descriptor: int) -> None:
        self._folder = folder
        self._path = path
        self._descriptor = descriptor

    def check(self) -> None:
        """Refuse to go on in a folder that was removed, moved or replaced.

        Raises:
            FolderError: the path names something else than at first, or nothing.
        """
        try:
            same = os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            same = False
        if not same:
            raise FolderError(
                f"{self._folder} was removed, moved or replaced while this process worked in it; "
                "nothing more is written"
            )


class NoLock:
    """Stand for the lock in a process of the run that does not write the folder."""

    def check(self) -> None:
        """Do nothing: the process that writes looks after the folder."""


def study_record(folder: Path) -> Path:
    """Return the file in which a study's folder says what the study is and where its runs lie."""
    return folder / "study.json"


def expanded(path: Path | str) -> Path:
    """Return a path whose leading `~`, which shells leave in KEY=~/x, is the user's home."""
    return Path(os.path.expanduser(path))


def _refuse_circles(path: Path, node: object, above: tuple[int, ...] = ()) -> None:
    """Refuse YAML in which a list or a mapping holds itself: walking through it never ends."""
    if not isinstance(node, dict | list):
        return
    if id(node) in above or len(above) > _DEEPEST:
        raise FolderError(f"{path} holds no configuration: its parts lie too deep in each other")
    for part in node.values() if isinstance(node, dict) else node:
        _refuse_circles(path, part, (*above, id(node)))


def refuse_file(folder: Path) -> None:
    """Refuse a folder that cannot be made, because it or a folder above it is a file.

    Raises:
        FolderError: names the file.
    """
    found = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if found.exists() and not found.is_dir():
        raise FolderError(f"{found} is a file, not a folder; name another")


def find_run_folders(paths: Iterable[str | Path]) -> list[Path]:
    """Return the run folders that are named, each once, in the given order.

    Args:
        paths: run folders, globs of them, or folders that hold run folders at any depth.

    Raises:
        FolderError: nothing was given, or one of them names no run folder.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        folders = [folder for match in _matches(path) for folder in _run_folders(match)]
        if not folders:
            raise FolderError(
                f"{path}: no run folder there (a folder with a {RunFolder(path).config.name})"
            )
        for folder in folders:
            found.setdefault(folder.resolve(), folder)
    if not found:
        raise FolderError("no run folder was given")
    return list(found.values())


def _matches(path: Path) -> list[Path]:
    if path.exists():
        return [path]
    return sorted(Path(match) for match in glob.glob(str(path), recursive=True))


def _run_folders(path: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the run folders at or below a folder, but none that is hidden or within a run.

    A link to one of the folders `above` is not followed: it would lead around in circles.
    """
    if RunFolder(path).config.is_file():
        yield path
    elif path.is_dir() and path.resolve() not in above:
        here = above | {path.resolve()}
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _run_folders(child, here)


def check_format(path: Path, found: object) -> None:
    """Refuse a file of another format, naming the version of this project that reads it.

    Args:
        path: the file, for the message.
        found: its format number.

    Raises:
        FolderError: the format is not the present one.
    """
    if found == FORMAT:
        return
    reader = READABLE_BY.get(found) if isinstance(found, int) else None
    advice = f"version {reader} of pixel-hrl reads it" if reader else "a newer pixel-hrl reads it"
    raise FolderError(f"{path} has format {found!r}, and this version reads {FORMAT}: {advice}")
