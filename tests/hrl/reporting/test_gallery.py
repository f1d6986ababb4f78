"""The moving picture of the README: made by a command, small, and moving."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from envs.resources import config_files
from hrl.cli import run_command
from hrl.reporting import gallery

KEPT = Path(__file__).resolve().parents[3] / "docs" / "images" / "robots.webp"


def _frames(path):
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(picture)]


def test_another_kind_of_file_is_refused_before_anything_is_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "record_gallery", None)
    assert run_command("suites", ["debug", f"--gallery={tmp_path / 'robots.mp4'}"]) == 2
    assert "must end in .webp" in capsys.readouterr().err


def test_the_command_writes_suites_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery.record_gallery, "__defaults__", (3,))
    path = tmp_path / "new" / "robots.webp"
    command = ["debug", "compat_cartpole", f"--gallery={path}"]
    assert run_command("suites", command) == 0
    frames = _frames(path)
    assert len(frames) == 3
    assert frames[0].shape == (gallery.SIZE, 2 * gallery.SIZE + 4, 3)
    halves = [np.split(frame[:, : 2 * gallery.SIZE], 2, axis=1) for frame in frames]
    for one, other in pairwise(halves):
        for before, after in zip(one, other, strict=True):
            assert np.abs(before - after).max() > 20


def test_the_kept_picture_is_small_and_moves():
    assert KEPT.stat().st_size < 600_000
    frames = _frames(KEPT)
    assert len(frames) == gallery.FRAMES
    step = gallery.SIZE + 4
    for index in range(len(gallery.SUITES)):
        row, column = divmod(index, gallery.COLUMNS)
        rows, columns = (
            slice(row * step, row * step + 160),
            slice(column * step, column * step + 160),
        )
        changes = [np.abs(a[rows, columns] - b[rows, columns]).max() for a, b in pairwise(frames)]
        assert np.mean(np.array(changes) > 20) > 0.5, gallery.SUITES[index]
    assert set(gallery.SUITES) <= set(config_files("suite"))
