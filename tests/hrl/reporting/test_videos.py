"""Tests of which videos a report shows."""

from pathlib import Path

from hrl import reporting
from hrl.reporting.videos import fitting, latest_videos


def test_the_latest_video_of_each_method_and_task_is_taken_whole_tasks_at_a_time(
    study: Path,
) -> None:
    for method, size in (("flat_1", 10), ("skills_0", 30)):
        (study / method / "videos").mkdir()
        for name in ("000000100_train_1", "000000200_train_1", "000000100_train_0", "odd"):
            (study / method / "videos" / f"{name}.mp4").write_bytes(b"x" * size)
    videos = latest_videos(reporting.load_runs([study]))
    assert [(video.task, video.method, video.frames) for video in videos] == [
        ("train_0", "flat", 100),
        ("train_0", "skills", 100),
        ("train_1", "flat", 200),
        ("train_1", "skills", 200),
        ("odd", "flat", None),
        ("odd", "skills", None),
    ]
    embedded, left = fitting(videos, room=100)
    assert {video.task for video in embedded} == {"train_0", "train_1"}
    assert {video.task for video in left} == {"odd"}
