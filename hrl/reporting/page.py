"""HTML, and nothing about experiments: tables, figures, sections, and the page that holds them
without outside help.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from hrl.reporting.page_style import STYLE


@dataclass(frozen=True)
class Cell:
    """A table cell. `html` goes in as it is; `kind` holds style classes (text, long, head)."""

    html: str
    kind: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page with an entry in the table of contents."""

    name: str
    title: str
    parts: Sequence[str] = field(default_factory=tuple)


def number(value: str) -> Cell:
    """A right-aligned cell."""
    return Cell(escape(value))


def text(value: str, kind: str = "text") -> Cell:
    """A left-aligned cell."""
    return Cell(escape(value), kind)


def paragraph(value: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{escape(value)}</p>"


def table(
    header: Sequence[Cell], rows: Iterable[Sequence[Cell]], breaks: Iterable[int] = ()
) -> str:
    """A table that scrolls sideways on small screens; a stronger line stands above the rows
    numbered in `breaks`.
    """
    strong = set(breaks)
    head = "".join(f"<th{_class(cell.kind)}>{cell.html}</th>" for cell in header)
    body = "\n".join(
        f"<tr{_class('first' if i in strong else '')}>"
        + "".join(f"<td{_class(cell.kind)}>{cell.html}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def image(title: str, svg: bytes, caption: str, note: str, source: str, share: float = 1.0) -> str:
    """A figure drawn as SVG on a share of the page's width, its caption, a warning if any, and
    where it comes from.
    """
    warning = f'<div class="note">{escape(note)}</div>' if note else ""
    return (
        f'<figure><h3>{escape(title)}</h3><div class="plot">'
        f'<img alt="{escape(title)}" style="max-width:{100 * share:.0f}%" src="{data_uri(svg, "image/svg+xml")}"></div>'
        f"<figcaption>{escape(caption)} {source}</figcaption>{warning}</figure>"
    )


def film(video: bytes, caption: str) -> str:
    """A short video that plays silently in a loop."""
    return (
        f'<figure><video controls loop muted autoplay playsinline src="{data_uri(video, "video/mp4")}"></video>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def folded(summary: str, inside: str) -> str:
    """Something to open on demand. `inside` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def code(value: str, kind: str = "") -> str:
    """Preformatted text."""
    return f"<pre{_class(kind)}>{escape(value)}</pre>"


def bullets(sentences: Iterable[str], kind: str = "") -> str:
    """A list of plain sentences."""
    return (
        f"<ul{_class(kind)}>"
        + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        + "</ul>"
    )


def definitions(terms: Iterable[tuple[str, str]]) -> str:
    """Terms with what they mean. Meanings are HTML."""
    return (
        "<dl>"
        + "".join(f"<dt>{escape(term)}</dt><dd>{meaning}</dd>" for term, meaning in terms)
        + "</dl>"
    )


def swatch(label: str, colour: str) -> str:
    """A name with its colour beside it."""
    return f'<span class="swatch" style="background:{colour}"></span>{escape(label)}'


def data_uri(content: bytes, kind: str) -> str:
    """The content itself as an address, so that the page needs no file beside it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def page(title: str, header: str, sections: Sequence[Section]) -> str:
    """The whole document. `header` is HTML that stands above the contents."""
    contents = "".join(
        f'<a href="#{section.name}">{escape(section.title)}</a>' for section in sections
    )
    body = "\n".join(
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>\n'
        + "\n".join(section.parts)
        + "</section>"
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f'<body><div class="layout"><header><h1>{escape(title)}</h1>{header}</header>\n'
        f"<nav><strong>Contents</strong>{contents}</nav>\n<main>{body}</main></div></body></html>\n"
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
