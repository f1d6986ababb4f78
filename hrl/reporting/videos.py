"""Choose the videos that go into the report: the latest of each method and task, if they fit."""

from dataclasses import dataclass
from pathlib import Path

from hrl.reporting.runs import Run, Runs

ROOM = 8_000_000  # bytes of mp4; base64 adds a third, and the whole page should stay below 15 MB


@dataclass(frozen=True)
class Video:
    """Hold a video of one task by one run.

    frames: of training before it was recorded; None where the file name does not say.
    """

    path: Path
    method: str
    seed: int
    task: str
    frames: int | None


def latest_videos(runs: Runs) -> list[Video]:
    """Return the last video of every method and task, from the method's first seed that has one.

    Tasks come in turn, methods side by side.
    """
    latest: dict[tuple[str, str], Video] = {}
    for run in runs.runs:
        of_run = {
            video.task: video
            for video in sorted((_video(path, run) for path in run.videos), key=_frames)
        }
        for task, video in of_run.items():
            latest.setdefault((run.method, task), video)
    order = {
        task.name: i
        for i, task in enumerate(task for tasks in runs.suite.splits.values() for task in tasks)
    }
    methods = {method: i for i, method in enumerate(runs.methods)}
    return sorted(
        latest.values(),
        key=lambda one: (order.get(one.task, len(order)), one.task, methods[one.method]),
    )


def fitting(videos: list[Video], room: int = ROOM) -> tuple[list[Video], list[Video]]:
    """Return (embedded, left out): whole tasks, so that no method is shown without the others."""
    embedded: list[Video] = []
    for task in dict.fromkeys(video.task for video in videos):
        row = [video for video in videos if video.task == task]
        size = sum(video.path.stat().st_size for video in row)
        if size <= room:
            embedded += row
            room -= size
    return embedded, [video for video in videos if video not in embedded]


def _video(path: Path, run: Run) -> Video:
    """Read frames and task from a name like `<frames>_<task>.mp4`; take others for the task's."""
    frames, separator, task = path.stem.partition("_")
    if separator and frames.isdigit():
        return Video(path, run.method, run.seed, task, int(frames))
    return Video(path, run.method, run.seed, path.stem, None)


def _frames(video: Video) -> int:
    return -1 if video.frames is None else video.frames
