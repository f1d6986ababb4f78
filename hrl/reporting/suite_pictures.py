"""Draw the pictures of a suite's page: moments of its tasks, and one of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from envs import Suite, make_vec
from envs.tasks import Task
from hrl.reporting.report import save_figure

MOMENTS = 5
SIZE = 128
STRIP = "_strip.webp"
THUMBNAIL = "_small.webp"
MOST_TRAINING_ROWS = 4
_SMALLEST = 8  # pixels of the images that agents would see, which nobody looks at here
_GAP = 4  # pixels
_CELL = 1.0  # inches, of an image
_LABEL = 0.24  # inches, of the line above a row
_FONT_SIZE = 12  # points: legible where a page is as wide as a phone
_DPI = 140
_WEBP: dict[str, Any] = {"quality": 60, "method": 6}


def shown_tasks(suite: Suite) -> list[tuple[str, Task]]:
    """Return split and task of each row: some training tasks, and one of each other split."""
    rows = [("train", task) for task in suite.tasks("train")[:MOST_TRAINING_ROWS]]
    return rows + [(split, suite.tasks(split)[0]) for split in suite.splits if split != "train"]


def draw(suite: Suite, folder: Path) -> None:
    """Write the pictures of a suite, all of random play.

    NAME.webp has moments of each of `shown_tasks`, NAME_strip.webp those of the first one alone,
    and NAME_small.webp one of these.
    """
    rows = shown_tasks(suite)
    images = moments(suite, [task for _, task in rows])
    sheet = contact_sheet(images, [f"{split}: {task.name}" for split, task in rows])
    save_figure(sheet, folder / f"{suite.name}.webp", dpi=_DPI, pil_kwargs=_WEBP)
    strip = np.concatenate(list(images[0]), axis=1)
    for picture, ending in ((strip, STRIP), (images[0, MOMENTS // 2], THUMBNAIL)):
        Image.fromarray(picture).save(folder / f"{suite.name}{ending}", **_WEBP)


def moments(suite: Suite, tasks: Sequence[Task]) -> UInt8[np.ndarray, "task moment size size 3"]:
    """Return images of random play, evenly spaced over an episode of each task."""
    env = make_vec(suite, len(tasks), list(tasks), evaluation=True, image_size=_SMALLEST)
    lengths = [task.episode_length // suite.action_repeat for task in tasks]
    wanted = np.stack(
        [np.linspace(0, length - 1, MOMENTS).round().astype(int) for length in lengths]
    )
    shown = np.zeros((len(tasks), MOMENTS, SIZE, SIZE, 3), np.uint8)
    rng = np.random.default_rng(0)
    env.reset()
    for step in range(max(lengths)):
        for row, column in zip(*np.nonzero(wanted == step), strict=True):
            shown[row, column] = env.render_frames(int(row), SIZE)
        env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    env.close()
    return shown


def contact_sheet(
    images: UInt8[np.ndarray, "row moment size size 3"], labels: Sequence[str]
) -> Figure:
    """Draw a row of images under each label; a label that is too long becomes smaller."""
    width = _CELL * images.shape[1]
    row_height = _CELL + _LABEL
    height = row_height * len(labels)
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    gap = [(0, 0), (0, 0), (0, 0), (0, _GAP), (0, 0)]
    shown = np.pad(images, gap, constant_values=255)
    for row, (strip, label) in enumerate(zip(shown, labels, strict=True)):
        top = height - row_height * row
        axes = figure.add_axes((0, (top - row_height) / height, 1, _CELL / height))
        axes.imshow(np.concatenate(list(strip), axis=1)[:, :-_GAP], aspect="auto")
        axes.set_axis_off()
        text = figure.text(
            0.005,
            (top - _LABEL / 2) / height,
            label,
            fontsize=_FONT_SIZE,
            va="center",
            color="black",
            parse_math=False,
        )
        share = text.get_window_extent().width / (0.95 * figure.bbox.width)
        text.set_fontsize(_FONT_SIZE / max(1.0, share))
    return figure
