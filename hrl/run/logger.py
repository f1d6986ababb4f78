"""Log the metrics of a run as JSON lines that can be continued byte for byte.

TensorBoard and Weights & Biases (W&B) get the same metrics.
"""

import math
import numbers
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, Self

from PIL import Image

from hrl.evaluation.video_writer import encode_gif
from hrl.run.atomic_files import write_text_atomic
from hrl.run.folder import RunFolder
from hrl.run.json_lines import JsonLines, check_lines, read_lines, whole_lines_end

WANDB_MODES = ("online", "offline", "disabled")
COUNTERS = ("frames", "steps", "decisions", "updates")
RGB = 3  # TensorBoard's number of this colour space
POSITION_KEYS = ("metrics", "timing", "frames", "wandb_id")


class LogWriter(Protocol):
    """Show metrics in another program.

    A writer that fails is dropped with a warning: the run and its JSON lines go on.
    """

    def log(self, metrics: Mapping[str, float], frames: int) -> None:
        """Show the metrics after so many control steps."""

    def log_video(self, name: str, path: Path, frames: int) -> None:
        """Show a video that was recorded after so many control steps."""

    def flush(self) -> None:
        """Write everything that was logged to the disk."""

    def close(self) -> None:
        """End the log."""


class Logger:
    """Write metrics.jsonl and timing.jsonl, and show the metrics in TensorBoard and W&B.

    metrics.jsonl holds no wall-clock time: with `position()` in a checkpoint and `resume_at` from
    it, a run that was killed and continued ends with the same bytes as one that was not. What was
    lost of timing.jsonl is left out, with a warning.

    Args:
        folder: the run folder; it must exist.
        config: the plain configuration, shown by W&B and the source of the run's name there.
        wandb_mode: online, offline or disabled; "offline" needs neither an account nor a network,
            "disabled" does not even import it.
        tensorboard: write folder/tensorboard.
        resume_at: a `position()`. What was logged after it is cut off. None starts everything from
            nothing: files and TensorBoard events of a run that never came to a checkpoint go.

    Raises:
        LoggerError: metrics.jsonl is shorter than the position says, or damaged before it.
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
        check_lines(folder.metrics, position["metrics"])
        self._metrics = JsonLines(folder.metrics, position["metrics"])
        self._timing = JsonLines(folder.timing, _timing_end(folder.timing, position["timing"]))
        self._frames: int = position["frames"]
        self._wandb_id: str | None = position["wandb_id"]
        self._writers: list[LogWriter] = []
        if tensorboard:
            self._open(
                lambda: _TensorBoard(folder.tensorboard, self._frames + 1 if resume_at else None)
            )
        if wandb_mode != "disabled":
            chosen = os.environ.get("WANDB_RUN_ID")
            self._wandb_id = chosen or self._wandb_id or _run_id(folder.wandb)
            before = read_lines(folder.metrics, position["metrics"])
            self._open(lambda: _Wandb(folder, wandb_mode, config, str(self._wandb_id), before))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Append one line.

        Counters come first, the other keys in alphabetical order, floats with all their digits.

        Raises:
            ValueError: "frames" is missing, or a value is not a finite number; the key is named.
        """
        record = _checked_record(metrics)
        self._metrics.append(record)
        self._frames = int(record["frames"])
        self._show(lambda writer: writer.log(record, self._frames))

    def log_timing(self, frames: int, seconds: float, frames_per_second: float) -> None:
        """Append one line to timing.jsonl.

        Args:
            frames: control steps so far.
            seconds: training time, summed over continuations.
            frames_per_second: recent speed.
        """
        self._timing.append(
            {
                "frames": frames,
                "seconds": round(seconds, 3),
                "frames_per_second": round(frames_per_second, 3),
            }
        )

    def log_video(self, name: str, path: Path, frames: int) -> None:
        """Show a video of the run folder: W&B takes a copy, TensorBoard an animated GIF."""
        self._show(lambda writer: writer.log_video(name, path, frames))

    def flush(self) -> None:
        """Bring every line to the disk, before the checkpoint with `position()` is saved."""
        self._metrics.sync()
        self._timing.sync()
        self._show(lambda writer: writer.flush())

    def position(self) -> dict[str, Any]:
        """Return where both files end now, as JSON values for a checkpoint and `resume_at`."""
        return {
            "metrics": self._metrics.end,
            "timing": self._timing.end,
            "frames": self._frames,
            "wandb_id": self._wandb_id,
        }

    def close(self) -> None:
        """Bring every line to the disk and end all logs."""
        self.flush()
        self._show(lambda writer: writer.close())
        self._writers.clear()
        self._metrics.close()
        self._timing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, factory: Callable[[], LogWriter]) -> None:
        try:
            self._writers.append(factory())
        except Exception as error:  # of another program, which must not end a run
            warnings.warn(
                f"metrics go on without a log that did not start: {error!r}", stacklevel=3
            )

    def _show(self, action: Callable[[LogWriter], None]) -> None:
        for writer in tuple(self._writers):
            try:
                action(writer)
            except Exception as error:  # as above
                self._writers.remove(writer)
                warnings.warn(
                    f"{type(writer).__name__[1:]} failed and is left out from here: {error!r}",
                    stacklevel=3,
                )


class NoLogger:
    """Stand for the logger in a process of the run that does not write the logs."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Write nothing."""

    def log_timing(self, frames: int, seconds: float, frames_per_second: float) -> None:
        """Write nothing."""

    def log_video(self, name: str, path: Path, frames: int) -> None:
        """Show nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def position(self) -> dict[str, Any]:
        """Return no position."""
        return {}

    def close(self) -> None:
        """Do nothing."""


class _TensorBoard:
    """Write TensorBoard events."""

    def __init__(self, folder: Path, purge_from: int | None) -> None:
        # Imported here: a run without it does not pay the 0.2 s.
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        self._summary = Summary
        if purge_from is None:
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_from)

    def log(self, metrics: Mapping[str, float], frames: int) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, frames)

    def log_video(self, name: str, path: Path, frames: int) -> None:
        # Not `add_video`: it needs moviepy and all frames in memory.
        gif = encode_gif(path)
        width, height = Image.open(BytesIO(gif)).size
        image = self._summary.Image(
            height=height, width=width, colorspace=RGB, encoded_image_string=gif
        )
        value = self._summary.Value(tag=name, image=image)
        self._writer._get_file_writer().add_summary(self._summary(value=[value]), frames)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Log to W&B; a variable WANDB_* that the user has set decides over what is passed here.

    W&B's service writes late: a kill may lose much of what it was given. So a continued run gives
    it again what it may lack. A run on the server says at which step it goes on; offline every
    start has a file of its own, so that the last one holds the whole run.
    """

    def __init__(
        self,
        folder: RunFolder,
        mode: str,
        config: Mapping[str, Any],
        run_id: str,
        before: Iterable[Mapping[str, float]],
    ) -> None:
        # Imported here: a run without it pays neither half a second nor a service process.
        import wandb

        self._video = wandb.Video
        # Its service logs into the user's cache folder, or onto the terminal where a container has
        # no home.
        with _default_variable("WANDB_CACHE_DIR", str(folder.wandb.resolve() / "cache")):
            self._run = wandb.init(
                id=run_id,
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(
                    **_unless_set(
                        {"WANDB_SILENT": ("silent", True), "WANDB_CONSOLE": ("console", "off")}
                    )
                ),
                **_unless_set(
                    {
                        **_wandb_names(config),
                        "WANDB_DIR": ("dir", folder.path),
                        "WANDB_MODE": ("mode", mode),
                        "WANDB_RESUME": ("resume", "allow"),
                    }
                ),
            )
        self._run.define_metric("frames")
        self._run.define_metric("*", step_metric="frames")
        for record in before:
            if record["frames"] >= self._run.starting_step:
                self.log(record, int(record["frames"]))

    def log(self, metrics: Mapping[str, float], frames: int) -> None:
        # Committed: otherwise the service would wait for the next step. Videos come before.
        self._run.log(dict(metrics), step=frames, commit=True)

    def log_video(self, name: str, path: Path, frames: int) -> None:
        video = self._video(str(path), format="mp4")
        self._run.log({name: video, "frames": frames}, step=frames)

    def flush(self) -> None:
        """Do nothing: W&B's service writes by itself."""

    def close(self) -> None:
        self._run.finish()


def _wandb_names(config: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return project, name, group and tags of a run, each by the variable that replaces it."""
    suite = str(config.get("suite", {}).get("name", "suite"))
    method = str(config.get("method") or config.get("agent", {}).get("name", "method"))
    group = config.get("tracking", {}).get("group") or f"{suite}-{method}"
    agent = str(config.get("agent", {}).get("name", method))
    return {
        "WANDB_PROJECT": ("project", "pixel-hrl"),
        "WANDB_NAME": ("name", f"{suite}-{method}-{config.get('seed', 0)}"),
        "WANDB_RUN_GROUP": ("group", group),
        "WANDB_TAGS": ("tags", list(dict.fromkeys([suite, method, agent]))),
    }


def _unless_set(arguments: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the arguments whose variable the user has not set."""
    return {
        name: value for variable, (name, value) in arguments.items() if not os.environ.get(variable)
    }


@contextmanager
def _default_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the block, unless the user has set it."""
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
    """Return a Python int or float of the same value (numpy's scalars are not JSON)."""
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
        raise ValueError(f"the position of the logs in the checkpoint lacks {', '.join(missing)}")
    return position


def _timing_end(path: Path, saved: int) -> int:
    """Return where timing.jsonl can be continued: nothing but a figure depends on it."""
    end = whole_lines_end(path, saved)
    if end < saved:
        warnings.warn(
            f"{path} was cut or damaged since the checkpoint was saved: it goes on after its first "
            f"{end} of {saved} bytes",
            stacklevel=3,
        )
    return end


def _run_id(folder: Path) -> str:
    """Return the W&B run id of a run folder, made once: a later start is the same run."""
    path = folder / "run_id"
    try:
        found = path.read_text(encoding="utf-8")
    except (FileNotFoundError, ValueError):
        found = ""
    if not re.fullmatch("[0-9a-f]{12}", found):  # not there, or damaged
        found = secrets.token_hex(6)
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, found)
    return found
