"""Show files from outside `docs/` on the site, so that links to them work there as in a checkout.

A link such as `../results/README.md` leads out of `docs/`. Files of the folders and names
below are part of the site as `repository/PATH`, and links are changed to match.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

OUTSIDE = ("results/**/*", "examples/**/*.py", "*.md", "LICENSE", "CITATION.cff")
PREFIX = "repository/"
ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """List the pages of all task families in the navigation."""
    pages = sorted(path.stem for path in (ROOT / "docs/suites").glob("*.md"))
    families = next(entry for entry in config.nav or [] if "Task families" in entry)
    families["Task families"] += [f"suites/{name}.md" for name in pages if name != "index"]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the files from outside."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                name = PREFIX + path.relative_to(ROOT).as_posix()
                files.append(_not_in_nav(File.generated(config, name, abs_src_path=str(path))))
    listing = File.generated(config, f"{PREFIX}examples/README.md", content=_list_examples())
    files.append(_not_in_nav(listing))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Change the links between `docs/` and the files outside."""
    here = page.file.src_uri

    def changed(link: re.Match[str]) -> str:
        target = link[1]
        if re.match(r"[a-z]+:", target):
            return target
        return posixpath.relpath(_on_site(here, target), posixpath.dirname(here) or ".")

    return _LINK.sub(changed, markdown)


def _not_in_nav(file: File) -> File:
    file.inclusion = InclusionLevel.NOT_IN_NAV
    return file


def _list_examples() -> str:
    """Return a page that links every example, with the first line of its docstring."""
    rows = []
    for path in sorted(ROOT.glob("examples/**/*.py")):
        name = path.relative_to(ROOT / "examples").as_posix()
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append(f"| [{name}]({name}) | {text.splitlines()[0]} |")
    return "\n".join(["# Examples", "", "| file | |", "|---|---|", *rows, ""])


def _on_site(page: str, link: str) -> str:
    """Return where the site has the file that a page links to."""
    in_repository = page.removeprefix(PREFIX) if page.startswith(PREFIX) else f"docs/{page}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), link))
    if target.startswith("docs/"):
        on_site = target.removeprefix("docs/")
        return f"{on_site}/index.md" if (ROOT / target).is_dir() else on_site
    if (ROOT / target).is_dir():
        target = f"{target}/README.md"
    return PREFIX + target
