"""Write the formulas of the site as MathML, which browsers show without a script or a font.

`$...$` and `$$...$$` stay what GitHub reads, too; only the built pages hold MathML.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>'
    r"(?P<mark>[.,:;)]*)",
    re.DOTALL,
)


def on_page_content(content: str, **_: Any) -> str:
    """Return the page with each formula as MathML (called by MkDocs for every page)."""
    return _FORMULA.sub(_to_mathml, content)


def _to_mathml(formula: re.Match[str]) -> str:
    latex = html.unescape(formula["latex"]).strip()
    if formula["tag"] == "div":
        return f'<div class="formula">{convert(latex, display="block")}</div>'
    # A browser may break a line after a formula: the punctuation behind it stays on its line.
    return f'<span class="inline-formula">{convert(latex)}{formula["mark"]}</span>'
