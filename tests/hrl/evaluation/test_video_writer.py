"""Videos decode to the frames that went in; what is drawn is where it should be."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from hrl.evaluation import video_writer
from hrl.evaluation.video_writer import (
    BACKGROUND,
    caption,
    draw_skill_weights,
    encode_gif,
    skill_color,
    write_mp4,
)

COLORS = [(200, 60, 30), (20, 180, 60), (40, 70, 210), (128, 128, 128), (250, 250, 250)]


def image(color: tuple[int, int, int], height: int = 64, width: int = 96) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def decode(path: Path) -> tuple[dict, np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, np.stack(
        [np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader]
    )


def test_a_video_decodes_to_its_frames_in_number_order_and_color(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "000000100_walk.mp4"
    write_mp4(path, (image(color) for color in COLORS for _ in range(4)), fps=20)
    meta, frames = decode(path)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == 20
    assert frames.shape == (20, 64, 96, 3)
    for index, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - COLORS[index // 4]).max() <= 8, index
    assert list(path.parent.iterdir()) == [path]


def test_an_animated_gif_has_half_of_the_frames_of_a_video_of_twice_its_rate(
    tmp_path: Path,
) -> None:
    path = tmp_path / "walk.mp4"
    write_mp4(path, (image(color, 60, 320) for color in COLORS for _ in range(4)), fps=20)
    frames = [
        np.asarray(frame.convert("RGB"))
        for frame in ImageSequence.Iterator(Image.open(BytesIO(encode_gif(path))))
    ]
    assert {frame.shape for frame in frames} == {(30, 160, 3)}
    assert len(frames) == 10
    for index, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - COLORS[index // 2]).max() <= 10, index
    path.write_bytes(b"no video")
    with pytest.raises(OSError, match=r"walk\.mp4 cannot be shown.*Invalid data"):
        encode_gif(path)


@pytest.mark.parametrize(("height", "width"), [(63, 64), (64, 63), (33, 49), (16, 16)])
def test_odd_sizes_are_padded_with_their_edge(tmp_path: Path, height: int, width: int) -> None:
    ramp = image((0, 0, 0), height, width)
    ramp[:, :, 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    write_mp4(tmp_path / "odd.mp4", [ramp, ramp, ramp], fps=10)
    _, frames = decode(tmp_path / "odd.mp4")
    assert frames.shape == (3, height + height % 2, width + width % 2, 3)
    assert np.abs(frames[-1, :height, :width].astype(int) - ramp).mean() < 10


def test_frames_are_taken_one_by_one(tmp_path: Path) -> None:
    alive = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def frames() -> Iterator[np.ndarray]:
        nonlocal alive
        for _ in range(50):
            alive += 1
            yield image((1, 2, 3)).view(Counted)
            assert alive < 5

    write_mp4(tmp_path / "long.mp4", frames(), fps=10)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "at least one frame"),
        ([image((0, 0, 0)).astype(np.float32)], "uint8"),
        ([image((0, 0, 0))[..., 0]], "uint8"),
        ([image((0, 0, 0)), image((0, 0, 0), 32)], "the first one has"),
    ],
)
def test_what_is_no_video_is_refused_and_leaves_nothing(
    tmp_path: Path, frames: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "bad.mp4", frames, fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [0, 1, 100, 4096, -1])
def test_a_video_that_a_full_disk_cut_is_refused_and_leaves_the_earlier_one(
    tmp_path: Path, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder ends without a word where the disk is full at its end."""
    path = tmp_path / "walk.mp4"
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 255, (9, 64, 64, 3)).astype(np.uint8))
    write_mp4(path, frames, fps=10)
    before = path.read_bytes()
    assert len(before) > 8192
    encode = video_writer._encode

    def cut(file: Path, *arguments: Any) -> None:
        encode(file, *arguments)
        file.write_bytes(file.read_bytes()[:left])

    monkeypatch.setattr(video_writer, "_encode", cut)
    with pytest.raises(OSError, match=r"could not be written whole; is the disk full\?: '.*walk"):
        write_mp4(path, frames, fps=10)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("walk.mp4", before)]


def test_an_error_of_the_encoder_names_the_file_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Iterator[None]:
        yield
        raise OSError("[Errno 32] Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", fails)
    with pytest.raises(OSError, match=r"^\[Errno 5\] the video could .*walk\.mp4'$"):
        write_mp4(tmp_path / "walk.mp4", [image((0, 0, 0))] * 2, fps=10)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_video_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    write_mp4(path, [image((9, 9, 9))] * 2, fps=10)
    before = path.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield image((0, 0, 0))
        raise RuntimeError("the environment failed")

    with pytest.raises(RuntimeError, match="the environment failed"):
        write_mp4(path, broken(), fps=10)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_bar_is_as_high_as_its_weight(tmp_path: Path) -> None:
    frame = image((90, 90, 90), 128, 120)
    weights = [0.0, 0.25, 0.5, 1.0]
    drawn = draw_skill_weights(frame, weights)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (160, 120, 3)
    assert np.array_equal(drawn[:128], frame)
    panel = drawn[128:]
    for skill, weight in enumerate(weights):
        column = panel[:, 30 * skill + 10]
        filled = (column == skill_color(skill)).all(axis=-1)
        assert filled.sum() == round(30 * weight)
        assert filled[32 - filled.sum() :].all()
        assert (column[~filled] == BACKGROUND).all()


def test_every_skill_gets_a_bar_even_where_there_are_many() -> None:
    panel = draw_skill_weights(image((0, 0, 0)), np.ones(32))[64:]
    colors = {tuple(map(int, color)) for color in panel.reshape(-1, 3)}
    assert {skill_color(skill) for skill in range(32)} <= colors
    assert len({skill_color(skill) for skill in range(32)}) == 32


def test_labels_are_drawn_into_the_panel_only() -> None:
    frame = image((90, 90, 90), 128, 128)
    plain = draw_skill_weights(frame, [0.2, 0.8])
    labelled = draw_skill_weights(
        frame, [0.2, 0.8], labels=["reach", "a label far too long for its half of the panel"]
    )
    assert labelled.shape == plain.shape
    assert np.array_equal(labelled[:128], plain[:128])
    assert not np.array_equal(labelled[128:, :64], plain[128:, :64])


@pytest.mark.parametrize("weights", [[], [0.5, 1.5], [-0.1], [float("nan")], [[0.5]]])
def test_weights_outside_the_simplex_are_refused(weights: list) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        draw_skill_weights(image((0, 0, 0)), weights)
    with pytest.raises(ValueError, match="2 labels for 1"):
        draw_skill_weights(image((0, 0, 0)), [1.0], labels=["a", "b"])


def test_a_caption_covers_the_upper_edge_of_a_copy() -> None:
    frame = image((90, 90, 90), 128, 128)
    before = frame.copy()
    written = caption(frame, "walk 1.5 m/s")
    assert written.shape == frame.shape
    assert np.array_equal(frame, before)
    assert np.array_equal(written[20:], frame[20:])
    assert (written[:6].max(axis=-1) > 200).any(), "no light text"
    assert (written[0] == BACKGROUND).all()
    written[:] = 0  # the caller's own


def test_a_caption_that_is_too_long_is_cut_inside_the_image() -> None:
    frame = image((90, 90, 90), 64, 64)
    short, long = caption(frame, "walk"), caption(frame, "walk " * 40)
    assert not np.array_equal(short, long)
    assert (long[:8, -2:] == BACKGROUND).all()
    assert np.array_equal(caption(frame, ""), caption(image((90, 90, 90), 64, 64), ""))
