"""Show how far a run or an evaluation is: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text
from typing_extensions import override

PLAIN_INTERVAL = 10.0
"""Seconds between two plain lines."""
LIVE_INTERVAL = 0.1
"""Seconds between two states of the live bar."""
SHOWN_TASKS = 6
"""Tasks whose returns are shown; of more than that only the mean is."""


class ProgressDisplay:
    """Show the progress of something that is counted.

    On a terminal it is a live bar with a line of details below. Elsewhere it is a plain line every
    `interval` seconds, so that a log stays short.

    Args:
        total: the count at the end.
        unit: what is counted, in the plural.
        enabled: False shows nothing at all.
        console: where to write; standard output by default.
        interval: seconds between two plain lines.
        clock: returns seconds that only grow.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        enabled: bool = True,
        console: Console | None = None,
        interval: float = PLAIN_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._enabled = enabled
        self._console = console or Console()
        self._clock = clock
        live = enabled and self._console.is_terminal
        self._live = _LiveBar(self._console, total) if live else None
        self._interval = LIVE_INTERVAL if self._live else interval
        self._shown_at = float("-inf")
        self._pending: Callable[[], None] | None = None

    def update(self, count: int, rate: float, details: str = "") -> None:
        """Show a state, now or with a later update.

        Args:
            count: of what is done; more than the total counts as the total.
            rate: recent number per second; 0 where it is not known yet.
            details: anything else.
        """
        done = min(count, self._total)
        line = self._line(done, rate)
        self._pending = lambda: self._show(done, line, details)
        if self._enabled and self._clock() - self._shown_at >= self._interval:
            self._show_pending()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show_pending()
        if self._live:
            self._live.stop()

    def _show_pending(self) -> None:
        if self._enabled and self._pending:
            self._pending()
            self._pending = None
            self._shown_at = self._clock()

    def _line(self, done: int, rate: float) -> str:
        left = (self._total - done) / rate if rate > 0 else math.inf
        shown_rate = f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.2g}"
        return "  ".join(
            [
                f"{done:,}/{self._total:,} {self._unit} ({done / max(1, self._total):.1%})",
                f"{shown_rate} {self._unit}/s",
                f"{duration(left)} left",
            ]
        )

    def _show(self, done: int, line: str, details: str) -> None:
        if self._live:
            self._live.show(done, line, details)
            return
        text = f"{line}  {details}" if details else line
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)


class EpisodeProgress:
    """Show how many episodes of an evaluation have ended.

    Args:
        total: episodes of the evaluation.
        **settings: as of `ProgressDisplay`.
    """

    def __init__(self, total: int, **settings: Any) -> None:
        self._display = ProgressDisplay(total, "episodes", **settings)
        self._clock: Callable[[], float] = settings.get("clock", time.monotonic)
        self._started = self._clock()
        self._ended = 0

    def add(self, count: int) -> None:
        """Count episodes that have ended."""
        self._ended += count
        elapsed = self._clock() - self._started
        self._display.update(self._ended, self._ended / elapsed if elapsed > 0 else 0.0)

    def __enter__(self) -> Self:
        self._display.__enter__()
        self._display.update(0, 0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.__exit__(kind, error, trace)


def training_details(
    metrics: Mapping[str, float], partial_returns: Mapping[str, float], evaluated: str
) -> str:
    """Return in a line how a run is doing: reward, returns, losses, the last evaluation.

    Args:
        metrics: of the last iteration.
        partial_returns: mean return so far of the running episodes, by task.
        evaluated: the last evaluation in words, empty before the first one.
    """
    prefix = "train/return/"
    ended = {
        key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)
    }
    reward = metrics.get("train/reward_per_frame")
    losses = {key: value for key, value in metrics.items() if key.startswith("loss/")}
    first_losses = list(losses.items())[:3]
    parts = [
        f"reward {reward:.3f} a frame" if reward is not None else "",
        _by_task("return", ended, 1) if ended else _by_task("return so far", partial_returns, 1),
        ", ".join(f"{key} {value:.3g}" for key, value in first_losses),
        evaluated,
    ]
    return "  ".join(part for part in parts if part)


def evaluation_in_words(metrics: Mapping[str, float], frames: int) -> str:
    """Return the mean return of an evaluation and when it was made, in words."""
    return f"evaluated at {frames:,}: return {metrics['eval/train/return']:.1f}"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits."""
    if not math.isfinite(seconds):
        return "unknown time"
    whole = int(max(0.0, seconds))
    hours = whole // 3600
    minutes = whole // 60
    if minutes < 1:
        return f"{max(0.0, seconds):.0f}s"
    return f"{hours}h {minutes % 60:02d}m" if hours else f"{minutes}m"


class _LiveBar(Progress):
    """Draw a bar with its numbers, and a line of details below."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (BarColumn(), TextColumn("{task.fields[line]}", markup=False))
        self._details = ""
        super().__init__(*columns, console=console, auto_refresh=False)
        self._bar = self.add_task("", total=total, line="")

    def show(self, done: int, line: str, details: str) -> None:
        """Draw a state."""
        self._details = details
        self.update(self._bar, completed=done, line=line)
        self.refresh()

    @override
    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        yield Text(self._details)


def _by_task(name: str, values: Mapping[str, float], digits: int) -> str:
    if not values:
        return ""
    if len(values) > SHOWN_TASKS:
        mean = sum(values.values()) / len(values)
        return f"mean {name} of {len(values)} tasks {mean:.{digits}f}"
    return f"{name}: " + ", ".join(f"{task} {value:.{digits}f}" for task, value in values.items())
