"""Write a page and a contact sheet for each suite, as `pixel-hrl suites` does."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hrl.cli.parser import CommandParser, UsageError, folder_path, positive

if TYPE_CHECKING:
    from envs import Suite

DESCRIPTION = """Write a page and a contact sheet for each suite: images, rewards, splits, and the
returns of random and of zero actions, which are stored as the reference scores that reports
normalise by."""
EXAMPLES = """examples:
  pixel-hrl suites                                     every suite whose packages are installed
  pixel-hrl suites walker_speed point_mass --episodes=5 --out=pages
  pixel-hrl suites --gallery=docs/images/robots.webp    the moving picture of the README
  pixel-hrl suites --config-dir=mine my_suite --reference-scores=mine/reference_scores"""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("suites", DESCRIPTION, EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="SUITE", help="default: all")
    parser.add_argument(
        "--episodes", type=positive, default=2, metavar="N", help="per task (default: 2)"
    )
    parser.add_argument(
        "--out",
        type=folder_path,
        default=Path("docs/suites"),
        metavar="DIR",
        help="where to write (default: docs/suites)",
    )
    parser.add_argument(
        "--reference-scores",
        type=folder_path,
        metavar="DIR",
        help="where SUITE.csv with the returns is written (default: where the installed ones lie)",
    )
    parser.add_argument(
        "--text-only",
        action="store_true",
        help="play nothing: write the text anew from the stored returns, and keep the images",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw the pictures anew, and the text from the stored returns",
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE",
        help="write no page but one moving picture of these suites, or of some, side by side; an "
        "animated WebP",
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Write the pages; each names the command that writes it anew."""
    from envs import load_suite
    from envs.resources import REFERENCE_SCORES
    from hrl.reporting import suite_pictures
    from hrl.reporting.suite_pages import rewrite_text, write_index, write_page
    from hrl.run import hardware

    hardware.configure(0)
    if options.gallery:
        from hrl.reporting import gallery

        if options.gallery.suffix != ".webp":
            raise UsageError(f"--gallery={options.gallery}: the file's name must end in .webp")
        chosen = _suites(options.names or list(gallery.SUITES)).values()
        gallery.record_gallery(list(chosen), options.gallery)
        print(options.gallery)
        return
    scores = options.reference_scores or REFERENCE_SCORES
    if options.text_only:
        for suite in _suites(options.names or _written(options.out)).values():
            print(rewrite_text(suite, options.out, scores))
    elif options.pictures:
        for suite in _suites(options.names or _written(options.out)).values():
            suite_pictures.draw(suite, options.out)
            print(rewrite_text(suite, options.out, scores))
    else:
        for name, suite in _suites(options.names).items():
            own = shlex.join(["pixel-hrl", "suites", name, f"--episodes={options.episodes}"])
            print(write_page(suite, options.out, scores, options.episodes, own))
    print(write_index(map(load_suite, _written(options.out)), options.out))


def _written(folder: Path) -> list[str]:
    """Return the names of the suites that have a page in a folder."""
    from envs.resources import config_files

    pages = {page.stem for page in folder.glob("*.md")}
    return [name for name in config_files("suite") if name in pages]


def _suites(names: list[str]) -> dict[str, Suite]:
    """Return the named suites, or all whose packages are installed, by the names to load them."""
    from envs import load_suite
    from envs.resources import config_files

    found = {}
    for name in names or config_files("suite"):
        try:
            found[name] = load_suite(name).check_installed()
        except ValueError as error:
            if names:
                raise UsageError(str(error)) from error
            print(f"left out: {name}: {error}", file=sys.stderr)
    return found
