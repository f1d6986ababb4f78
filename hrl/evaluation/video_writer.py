"""Write videos as H.264 files that any browser plays, and annotate their frames."""

import colorsys
import errno
import fcntl
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours can be distinguished with any colour vision; further skills get hues by
# the golden angle.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
BACKGROUND = (24, 24, 24)
TEXT = (240, 240, 240)
# A GIF is several times as large as an H.264 file of the same images: the one in TensorBoard's
# events has fewer and smaller ones.
GIF_FPS = 10
GIF_WIDTH = 160  # pixels
SMALLEST_TEXT = 7  # pixels
LARGEST_TEXT = 14


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an H.264 file (yuv420p, BT.709, ready to stream), which gets its name when complete.

    Args:
        path: the file; its folder is made.
        frames: uint8 [height, width, 3] each, taken one by one. Odd sizes get one row or column
            more, a copy of the last one, because the colour planes of yuv420p are half as large.
        fps: frames per second.

    Raises:
        ValueError: there is no frame, or one is not an image or has another size than the first.
        OSError: the encoder failed, or the disk was full; names the file.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"{path.name} needs at least one frame")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            # Locked while this process lives, as files are that are written in Python: see
            # `hrl.run.atomic_files.remove_abandoned`.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                _encode(temporary, first.shape, chain([first], iterator), fps)
            except OSError as error:  # of the encoder, in many lines
                raise _unwritten(path) from error
            if not _is_whole(temporary):  # the encoder does not say that the disk was full
                raise _unwritten(path)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def encode_gif(path: Path) -> bytes:
    """Return a video as an animated GIF, at most `GIF_WIDTH` pixels wide, of `GIF_FPS` images/s.

    Args:
        path: a file of `write_mp4`.

    Raises:
        OSError: the file is no video; the decoder's message is in the error.
    """
    palette = "split[all][drawn];[all]palettegen[palette];[drawn][palette]paletteuse"
    filters = f"fps={GIF_FPS},scale='min({GIF_WIDTH},iw)':-2,{palette}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-filter_complex", filters, "-f", "gif", "pipe:1"]
    encoded = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if encoded.returncode:
        reason = "; ".join(encoded.stderr.decode(errors="replace").splitlines())
        raise OSError(f"{path} cannot be shown as an animated image: {reason}")
    return encoded.stdout


def draw_skill_weights(
    frame: np.ndarray, weights: Sequence[float] | np.ndarray, labels: Sequence[str] | None = None
) -> np.ndarray:
    """Put a panel under the image with one coloured bar per skill, as high as the skill's weight.

    Args:
        frame: uint8 [height, width, 3].
        weights: the weight of each skill, in [0, 1].
        labels: a short text for each skill; drawn where there is room.

    Returns:
        uint8 [height + panel, width, 3]; the panel's height depends on the frame's size only.

    Raises:
        ValueError: a weight is outside [0, 1], or the number of labels is not that of weights.
    """
    _check_image(frame)
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= -1e-3) & (values <= 1.001)).all():
        raise ValueError(f"skill weights must be a list of numbers in [0, 1], not {weights}")
    if labels is not None and len(labels) != len(values):
        raise ValueError(f"there are {len(labels)} labels for {len(values)} skills")
    panel = _bars(frame.shape[1], max(16, frame.shape[0] // 4), values)
    if labels is not None:
        panel = _label_bars(panel, labels)
    return np.concatenate([frame, panel])


def skill_color(skill: int) -> tuple[int, int, int]:
    """Return red, green and blue of a skill, the same in every video."""
    if skill < len(PALETTE):
        return PALETTE[skill]
    red, green, blue = colorsys.hsv_to_rgb(skill * 0.618034 % 1.0, 0.6, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def caption(frame: np.ndarray, text: str) -> np.ndarray:
    """Draw a line of text on a dark strip over the image's upper edge.

    Args:
        frame: uint8 [height, width, 3].
        text: cut with "…" where it does not fit.

    Returns:
        uint8 [height, width, 3], a copy.
    """
    _check_image(frame)
    size = int(np.clip(frame.shape[0] // 14, SMALLEST_TEXT, LARGEST_TEXT))
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, frame.shape[1], size + 3), fill=BACKGROUND)
    draw.text((2, 1), _fit(draw, text, frame.shape[1] - 4, size), fill=TEXT, font=_font(size))
    return np.asarray(image).copy()


def beside(*frames: np.ndarray) -> np.ndarray:
    """Place images in a row as high as the highest, with black under lower ones.

    Args:
        *frames: uint8 [height, width, 3], of any sizes.
    """
    for frame in frames:
        _check_image(frame)
    height = max(len(frame) for frame in frames)
    return np.concatenate(
        [np.pad(frame, ((0, height - len(frame)), (0, 0), (0, 0))) for frame in frames], 1
    )


def _encode(path: Path, shape: tuple[int, ...], frames: Iterator[np.ndarray], fps: float) -> None:
    height = shape[0] + shape[0] % 2
    width = shape[1] + shape[1] % 2
    # Without a named colour matrix players guess one by the image's size, and colours shift.
    color = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    color += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        quality=None,
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=[
            "-crf",
            "18",
            "-preset",
            "veryfast",
            *color,
            "-movflags",
            "+faststart",
            "-f",
            "mp4",
        ],
    )
    writer.send(None)
    try:
        for frame in frames:
            _check_image(frame)
            if frame.shape != shape:
                raise ValueError(f"a frame has shape {frame.shape}, the first one has {shape}")
            padding = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
            writer.send(np.ascontiguousarray(np.pad(frame, padding, mode="edge")))
    finally:
        writer.close()


def _unwritten(path: Path) -> OSError:
    return OSError(errno.EIO, "the video could not be written whole; is the disk full?", str(path))


def _is_whole(path: Path) -> bool:
    """Return whether an MP4 file's boxes end where it does, with the index among them."""
    size = path.stat().st_size
    position = 0
    kinds = set()
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # the length follows, in eight bytes
                length = int.from_bytes(head[8:], "big")
            if length < 8:
                return False
            kinds.add(head[4:8])
            position += length
    return position == size and b"moov" in kinds


def _check_image(frame: np.ndarray) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(
            f"a frame must be uint8 [height, width, 3], not {frame.dtype} {list(frame.shape)}"
        )


def _bars(width: int, height: int, weights: np.ndarray) -> np.ndarray:
    """Draw the bars: uint8 [height, width, 3].

    A full bar leaves a margin of two rows, and a bar of weight zero is not visible.
    """
    panel = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    edges = np.linspace(0, width, len(weights) + 1).round().astype(int)
    tops = height - (np.clip(weights, 0, 1) * (height - 2)).round().astype(int)
    for skill, top in enumerate(tops):
        left, right = edges[skill : skill + 2]
        gap = int(right - left >= 4)  # an empty column between bars, where they are wide enough
        panel[top:, left : right - gap] = skill_color(skill)
    return panel


def _label_bars(panel: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    image = Image.fromarray(panel)
    draw = ImageDraw.Draw(image)
    size = int(np.clip(panel.shape[0] // 3, SMALLEST_TEXT, LARGEST_TEXT))
    room = panel.shape[1] / len(labels)
    for skill, label in enumerate(labels):
        text = _fit(draw, label, room - 2, size)
        draw.text(
            (skill * room + 1, 0),
            text,
            fill=TEXT,
            font=_font(size),
            stroke_width=1,
            stroke_fill=BACKGROUND,
        )
    return np.asarray(image)


def _fit(draw: ImageDraw.ImageDraw, text: str, room: float, size: int) -> str:
    """Return as much of the text as fits into `room` pixels."""
    for length in range(len(text), 0, -1):
        shown = text if length == len(text) else text[:length].rstrip() + "…"
        if draw.textlength(shown, font=_font(size)) <= room:
            return shown
    return ""


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
