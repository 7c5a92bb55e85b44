"""Open the page in a browser: label images, map rasters, correct labels, follow runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rsml.cli.options import add, out_folder, whole
from rsml.cli.serve import add_address, read_token

if TYPE_CHECKING:
    from rsml.run import Run

UPLOAD = 16 * 2**30
"""Bytes of a raster that is dropped on the page: it goes to the disk, not into memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "It needs no network and answers this machine alone; see docs/app.md."
    parser.add_argument("model", nargs="?", metavar="RUN", help="a run folder (default: the newest below --out)")
    add_address(parser)
    add(
        parser,
        "--out",
        type=out_folder,
        metavar="FOLDER",
        help="folder of all runs (default: the run's own, or checkpoint)",
    )
    add(parser, "--batch-size", help="images a step at most (default: %(default)s)")
    parser.add_argument(
        "--max-upload", type=whole(1, 2**45), default=UPLOAD, metavar="N", help="bytes of a file dropped on it"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(options: argparse.Namespace) -> int:
    """Takes the address, loads the model, opens the browser, serves."""
    from rsml.run import ROOT, Run
    from rsml.utils.packages import require
    from rsml.utils.quiet import start_tensorflow

    require("fastapi", "uvicorn", "multipart", "prometheus_client")
    from rsml.app.listening import bind, serve
    from rsml.app.security import LOOPBACK, Limits, check_token

    token = read_token(options)
    root = Path(options.out) if options.out else Path(options.model).parent if options.model else ROOT
    # Without any run the page still opens, and says how to get one.
    chosen = Run.open(options.model) if options.model else _newest(root)
    taken, loopback = bind(options.host, options.port)
    check_token(token, options.host, loopback)
    start_tensorflow()
    from starlette.staticfiles import StaticFiles

    from rsml.app.engine import Engine
    from rsml.app.page import STATIC, page_router
    from rsml.app.page_workspace import Workspace
    from rsml.app.server import create_app

    engine = Engine(chosen.folder, batch_size=options.batch_size) if chosen else None
    app = create_app(
        engine,
        limits=Limits(uploads={"/page/images": options.max_upload}),
        token=token,
        hosts=LOOPBACK if token is None else None,
        roots=options.allow,
        routers=[page_router(Workspace(engine, root))],
    )
    app.mount("/static", StaticFiles(directory=STATIC))
    taken.listen()  # so that a browser that is quicker than the server waits for it
    host, port = taken.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(f"{chosen.name if chosen else root}: {address}  (Ctrl-C ends it; jobs that run go on)", flush=True)
    if not options.no_browser and loopback and not os.environ.get("SSH_CONNECTION"):
        import webbrowser

        webbrowser.open(address + (f"?token={token}" if token else ""))
    serve(app, taken, drain=10.0)
    return 0


def _newest(root: Path) -> Run | None:
    from rsml.run import Run
    from rsml.utils.errors import UserError

    try:
        return Run.newest(root)
    except UserError:
        return None
