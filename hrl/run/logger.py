"""Metrics of a run: JSON lines that can be continued byte for byte; TensorBoard and W&B are
displays beside them.
"""

import json
import math
import numbers
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from hrl.run.errors import LoggerError
from hrl.run.folder import RunFolder

WANDB_MODES = ("online", "offline", "disabled")
COUNTERS = ("frames", "steps", "decisions", "updates")
POSITION_KEYS = ("metrics", "timing", "frames", "wandb_id")


class Display(Protocol):
    """Where metrics are shown. One that fails is dropped with a warning: the run and its JSON lines
    go on.
    """

    def log(self, metrics: Mapping[str, float], frames: int) -> None: ...

    def log_video(self, name: str, path: Path, frames: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Logger:
    """Writes folder/metrics.jsonl and folder/timing.jsonl, and shows the metrics in TensorBoard and
    W&B.

    metrics.jsonl holds no wall-clock time: with `position()` in a checkpoint and `resume_at` from
    it, a run that was killed and continued ends with the same bytes as one that was not.

    Args:
        folder: the run folder; it must exist.
        config: the resolved configuration, shown by W&B.
        wandb_mode: online, offline or disabled; "offline" needs neither an account nor a network,
            "disabled" does not even import it.
        tensorboard: write folder/tensorboard.
        resume_at: a `position()`. What was logged after it is cut off. None starts everything from
            nothing: files and TensorBoard events of a run that never came to a checkpoint go.

    Raises:
        LoggerError: a file is shorter than the position says, or is not cut between two lines
            there.
        ValueError: an unknown mode, or a position that lacks a key.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        config: Mapping[str, Any],
        wandb_mode: str = "offline",
        tensorboard: bool = True,
        resume_at: Mapping[str, Any] | None = None,
    ) -> None:
        position = _checked_position(resume_at)
        if wandb_mode not in WANDB_MODES:
            raise ValueError(
                f"wandb_mode must be one of {', '.join(WANDB_MODES)}, not {wandb_mode!r}"
            )
        _check_length(folder.metrics, position["metrics"])
        _check_length(folder.timing, position["timing"])
        self._metrics = _JsonLines(folder.metrics, position["metrics"])
        self._timing = _JsonLines(folder.timing, position["timing"])
        self._frames: int = position["frames"]
        self._wandb_id: str | None = position["wandb_id"]
        self._displays: list[Display] = []
        if tensorboard:
            self._open(
                lambda: _TensorBoard(folder.tensorboard, self._frames + 1 if resume_at else None)
            )
        if wandb_mode != "disabled":
            self._wandb_id = self._wandb_id or _run_id(folder.wandb)
            self._open(lambda: _Wandb(folder, wandb_mode, config, str(self._wandb_id)))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Append one line. Counters come first, the other keys in alphabetical order, floats with
        all their digits.

        Raises:
            ValueError: "frames" is missing, or a value is not a finite number; the key is named.
        """
        record = _checked_record(metrics)
        self._metrics.append(record)
        self._frames = int(record["frames"])
        self._show(lambda display: display.log(record, self._frames))

    def log_timing(self, frames: int, seconds: float, frames_per_second: float) -> None:
        """Append one line to timing.jsonl; `seconds` is training time, summed over
        continuations.
        """
        self._timing.append(
            {
                "frames": frames,
                "seconds": round(seconds, 3),
                "frames_per_second": round(frames_per_second, 3),
            }
        )

    def log_video(self, name: str, path: Path, frames: int) -> None:
        """Show a video that lies in the run folder: W&B takes a copy, TensorBoard names the
        file.
        """
        self._show(lambda display: display.log_video(name, path, frames))

    def flush(self) -> None:
        """Bring every line to the disk. To be called before the checkpoint with `position()` is
        saved.
        """
        self._metrics.sync()
        self._timing.sync()
        self._show(lambda display: display.flush())

    def position(self) -> dict[str, Any]:
        """Where both files end now: JSON values for a checkpoint, to be given to `resume_at`."""
        return {
            "metrics": self._metrics.end,
            "timing": self._timing.end,
            "frames": self._frames,
            "wandb_id": self._wandb_id,
        }

    def close(self) -> None:
        self.flush()
        self._show(lambda display: display.close())
        self._displays.clear()
        self._metrics.close()
        self._timing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, factory: Callable[[], Display]) -> None:
        try:
            self._displays.append(factory())
        except (
            Exception
        ) as error:  # these are other people's services: whatever they raise must not end a run
            warnings.warn(
                f"metrics go on without a display that did not start: {error!r}", stacklevel=3
            )

    def _show(self, action: Callable[[Display], None]) -> None:
        for display in tuple(self._displays):
            try:
                action(display)
            except Exception as error:  # as above
                self._displays.remove(display)
                warnings.warn(
                    f"{type(display).__name__[1:]} failed and is left out from here: {error!r}",
                    stacklevel=3,
                )


class _JsonLines:
    """A file of JSON lines that is continued at a byte offset."""

    def __init__(self, path: Path, offset: int) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - it stays open as long as the run
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)

    @property
    def end(self) -> int:
        return self._file.tell()

    def append(self, record: Mapping[str, float]) -> None:
        # One write per line, and at once: whoever follows the file sees whole lines.
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    def __init__(self, folder: Path, purge_from: int | None) -> None:
        from torch.utils.tensorboard import (
            SummaryWriter,
        )  # 0.2 s that a run without it does not pay

        if purge_from is None:
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_from)

    def log(self, metrics: Mapping[str, float], frames: int) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, frames)

    def log_video(self, name: str, path: Path, frames: int) -> None:
        self._writer.add_text(name, str(path), frames)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(
        self, folder: RunFolder, mode: Any, config: Mapping[str, Any], run_id: str
    ) -> None:
        import wandb  # half a second, and a service process, that a run without it does not pay

        self._video = wandb.Video
        # Its service logs into the user's cache folder, or onto the terminal where a container has
        # no home.
        with _default_variable("WANDB_CACHE_DIR", str(folder.wandb.resolve() / "cache")):
            self._run = wandb.init(
                project="pixel-hrl",
                name=folder.path.name,
                dir=folder.path,
                id=run_id,
                mode=mode,
                config=dict(config),
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )

    def log(self, metrics: Mapping[str, float], frames: int) -> None:
        self._run.log(dict(metrics), step=frames)

    def log_video(self, name: str, path: Path, frames: int) -> None:
        self._run.log({name: self._video(str(path), format="mp4")}, step=frames)

    def flush(self) -> None:
        """W&B's service writes by itself."""

    def close(self) -> None:
        self._run.finish()


@contextmanager
def _default_variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for the time of the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _checked_record(metrics: Mapping[str, float]) -> dict[str, float]:
    if "frames" not in metrics:
        raise ValueError(
            f"metrics need 'frames', the control steps done so far; there are {', '.join(metrics)}"
        )
    keys = [key for key in COUNTERS if key in metrics] + sorted(metrics.keys() - set(COUNTERS))
    return {key: _finite_number(key, metrics[key]) for key in keys}


def _finite_number(key: str, value: object) -> float:
    """A Python int or float of the same value (numpy's scalars are not JSON)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(
            f"metric {key!r} must be a number, not {value!r} of type {type(value).__name__}"
        )
    if not math.isfinite(float(value)):
        raise ValueError(f"metric {key!r} is {float(value)}: only finite values are logged")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _checked_position(position: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if position is None:
        return {"metrics": 0, "timing": 0, "frames": 0, "wandb_id": None}
    missing = [key for key in POSITION_KEYS if key not in position]
    if missing:
        raise ValueError(f"the tracker's position in the checkpoint lacks {', '.join(missing)}")
    return position


def _check_length(path: Path, offset: int) -> None:
    """Both files are checked before either is cut."""
    size = path.stat().st_size if path.exists() else 0
    if size < offset:
        raise LoggerError(
            f"{path} has {size} bytes, but had {offset} when the checkpoint was saved: it was cut or replaced since"
        )
    if offset:
        with open(path, "rb") as file:
            file.seek(offset - 1)
            if file.read(1) != b"\n":
                raise LoggerError(
                    f"{path} has no line that ends at byte {offset}: it is not the checkpoint's file"
                )


def _run_id(folder: Path) -> str:
    """The W&B run id of a run folder, made once: whatever is started there again is the same
    run.
    """
    path = folder / "run_id"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(6))
    return path.read_text()
