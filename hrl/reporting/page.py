"""Assemble the report's page from its parts; the HTML stands in `templates/`.

This module knows nothing of experiments. A part is data; its `template` names the macro of
`templates/parts.html.jinja` that draws it.
"""

import base64
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

Value: TypeAlias = float | str | tuple[float, float] | None


@dataclass(frozen=True)
class Cell:
    """Hold the text of a table cell.

    kind: style classes (text, long, head).  colour: of the square before the text, if any.
    value: what CSV files hold in place of the text; a pair for the ends of an interval.
    """

    text: str
    kind: str = ""
    colour: str = ""
    value: Value = None


@dataclass(frozen=True)
class Paragraph:
    """Show a paragraph of plain text."""

    template: ClassVar[str] = "paragraph"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Heading:
    """Show a heading within a section."""

    template: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Bullets:
    """Show a list of plain sentences."""

    template: ClassVar[str] = "bullets"
    sentences: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Code:
    """Show preformatted text."""

    template: ClassVar[str] = "code"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Show a table; a stronger line stands above the rows numbered in `breaks`.

    name: stem of the files that it is exported to, unique on the page.
    """

    template: ClassVar[str] = "table"
    name: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    breaks: Collection[int] = ()


@dataclass(frozen=True)
class FigurePart:
    """Show a figure with its caption, a warning if any, and where it comes from.

    svg: the drawing.  percent: its share of the page's width.  files: where it is stored beside
    the page.  command: what rebuilds it.
    """

    template: ClassVar[str] = "figure"
    title: str
    svg: bytes
    caption: str
    note: str
    files: str
    command: str
    percent: int = 100

    @property
    def source(self) -> str:
        """Return the drawing as an address."""
        return data_uri(self.svg, "image/svg+xml")


@dataclass(frozen=True)
class VideoPart:
    """Hold a short video that plays silently in a loop, under its method's name."""

    content: bytes
    method: str
    colour: str
    caption: str

    @property
    def source(self) -> str:
        """Return the video as an address."""
        return data_uri(self.content, "video/mp4")


@dataclass(frozen=True)
class VideoRow:
    """Show videos side by side."""

    template: ClassVar[str] = "videos"
    videos: Sequence[VideoPart]


@dataclass(frozen=True)
class Definitions:
    """Show the terms that the report uses, and what they mean."""

    template: ClassVar[str] = "definitions"


@dataclass(frozen=True)
class Folded:
    """Show parts that the reader opens on demand."""

    template: ClassVar[str] = "folded"
    summary: str
    parts: Sequence["Part"]


Part: TypeAlias = (
    Paragraph | Heading | Bullets | Code | Table | FigurePart | VideoRow | Definitions | Folded
)


@dataclass(frozen=True)
class Section:
    """Hold a part of the page that has an entry in the table of contents."""

    name: str
    title: str
    parts: Sequence[Part] = field(default_factory=tuple)


@dataclass(frozen=True)
class Header:
    """Store the head of the page: a paragraph, counts with their labels, warnings."""

    lead: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]


def number(shown: str, value: Value = None) -> Cell:
    """Return a right-aligned cell."""
    return Cell(shown, value=value)


def text(shown: str, kind: str = "text", value: Value = None) -> Cell:
    """Return a left-aligned cell."""
    return Cell(shown, kind, value=value)


def quantity(value: float | None, digits: int = 2) -> Cell:
    """Return a cell with a number, or a dash where it is None or NaN."""
    if value is None or math.isnan(value):
        return number("-", "")
    return number(f"{value:z,.{digits}f}", value)


def share(value: float) -> Cell:
    """Return a cell with a share as a percentage."""
    return number(f"{100 * value:.0f} %", value)


def interval(ends: Sequence[float | None], digits: int = 2) -> Cell:
    """Return a cell with the ends of an interval, or a dash where there is none."""
    low, high = ends
    if low is None or high is None:
        return number("-", "")
    return number(f"[{low:z.{digits}f}, {high:z.{digits}f}]", (low, high))


def data_uri(content: bytes, media_type: str) -> str:
    """Return the content itself as an address, so that the page needs no file beside it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def page(title: str, header: Header, sections: Sequence[Section]) -> str:
    """Return the whole document as HTML."""
    template = _environment().get_template("report.html.jinja")
    return template.render(title=title, header=header, sections=sections) + "\n"


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("hrl.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
