"""Show runs while they are written on a local page, as `pixel-hrl dashboard` does."""

from __future__ import annotations

import argparse

from hrl.cli.parser import CommandParser, UsageError, port_number, positive_seconds

DESCRIPTION = """Serve a page on this machine that shows studies and runs while they are written:
progress and time left, learning curves, returns by task, diagnostics of hierarchies, videos and
alerts. It reads run folders and nothing else, so runs may be on a cluster's shared disk. Needs the
extra `dashboard`."""
EXAMPLES = """examples:
  pixel-hrl dashboard runs/quick                 http://127.0.0.1:8050
  pixel-hrl dashboard runs/quick runs/maze --port=8060
  pixel-hrl dashboard runs/quick --host=0.0.0.0  for other machines; asks for a token"""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("dashboard", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="studies, run folders, globs, or folders that hold run folders",
    )
    parser.add_argument(
        "--port", type=port_number, default=8050, metavar="N", help="of the page (default: 8050)"
    )
    parser.add_argument(
        "--host",
        default="",
        metavar="ADDRESS",
        help="serve on this address, which others may reach: a token is asked for (default: "
        "127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--refresh",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="between updates of the page (default: 5)",
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Serve the page until the process is interrupted."""
    del command
    try:
        from hrl.dashboard.app import make_app, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dash", "flask", "plotly"):
            raise
        raise UsageError(
            "the dashboard needs the extra dashboard: pip install 'pixel-hrl[dashboard]'"
        ) from error
    from hrl.dashboard.access import access_for

    access = access_for(options.host)
    app = make_app(options.runs, access, options.refresh)
    query = f"?token={access.token}" if access.token else ""
    name = f"[{access.host}]" if ":" in access.host else access.host
    print(f"dashboard: http://{name}:{options.port}/{query} (Ctrl-C ends it)", flush=True)
    serve(app, access, options.port)
