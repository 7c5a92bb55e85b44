"""Answer programs over HTTP with a trained model: labels, embeddings, similar scenes, class maps."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rsml.cli.options import add, whole

TOKEN = "RSML_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = f"Other machines may only ask with a token, which {TOKEN} or --token-file holds; see docs/serve.md."
    parser.add_argument(
        "model", nargs="?", metavar="RUN_OR_CHECKPOINT", help="a run folder, or a .keras / .h5 file (default: newest)"
    )
    add_address(parser)
    parser.add_argument(
        "--index", metavar="FOLDER", help="archive of /v1/similar, from `rsml retrieve index` (default: RUN/index)"
    )
    parser.add_argument("--views", type=int, choices=(1, 2, 4, 8), help="as for `rsml predict`")
    add(parser, "--batch-size", default=16, help="images a step at most; a GPU takes more (default: %(default)s)")
    parser.add_argument("--keep-model", action="store_true", help="do not take up the run's next best model")
    add_limits(parser)
    add(parser, "--trust")


def add_address(parser: argparse.ArgumentParser) -> None:
    """Where it listens, who may ask, and which files a request may name; also of `rsml app`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument(
        "--port", type=whole(0, 65_535), default=8765, metavar="N", help="0: any (default: %(default)s)"
    )
    parser.add_argument("--token-file", metavar="FILE", help=f"the token callers must show (default: {TOKEN})")
    parser.add_argument(
        "--allow",
        action="extend",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders whose files requests may name",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What one request may ask for."""
    for name, default, most, says in (
        ("queue", 256, 65_536, "images in work at most; above it the answer is 429"),
        ("max-images", 64, 65_536, "images of one request"),
        ("max-bytes", 64 * 2**20, 2**40, "bytes of one request"),
        ("max-pixels", 2**25, 2**34, "pixels of one image"),
        ("timeout", 30, 86_400, "seconds for one request, and for those in work at the end"),
    ):
        parser.add_argument(
            f"--{name}", type=whole(1, most), default=default, metavar="N", help=f"{says} (default: %(default)s)"
        )


def read_token(options: argparse.Namespace) -> str | None:
    """The token of a file or of the environment; never of the command line, which others can see."""
    from rsml.utils.errors import UserError

    if options.token_file is None:
        return os.environ.get(TOKEN) or None
    try:
        return Path(options.token_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as fault:
        raise UserError(f"{options.token_file}: cannot be read as a token ({fault}); name a text file") from None


def run(options: argparse.Namespace) -> int:
    """Takes the address, loads the model, serves."""
    from rsml.prediction.find_model import find_model
    from rsml.utils.packages import require
    from rsml.utils.quiet import start_tensorflow

    require("fastapi", "uvicorn", "multipart", "prometheus_client")
    from rsml.app.listening import bind, serve
    from rsml.app.security import LOOPBACK, Limits, Roots, check_token

    token = read_token(options)
    Roots(options.allow)
    find_model(options.model)
    taken, loopback = bind(options.host, options.port)
    check_token(token, options.host, loopback)
    limits = Limits(options.max_bytes, options.max_pixels, options.max_images, options.queue, float(options.timeout))
    start_tensorflow()
    from rsml.app.engine import Engine
    from rsml.app.server import create_app

    engine = Engine(
        options.model,
        trust=options.trust,
        views=options.views,
        batch_size=options.batch_size,
        queue=limits.queue,
        max_pixels=limits.pixels,
        watch=None if options.keep_model else 5.0,
    )
    # With a token, any name may lead here: a page that found one cannot show the token.
    hosts = LOOPBACK if token is None else None
    app = create_app(engine, limits=limits, token=token, hosts=hosts, roots=options.allow, index=options.index)
    taken.listen()  # so that whoever reads the address may ask at once
    host, port = taken.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    who = "this machine" if loopback else "other machines too"
    how = "with the token" if token else "without a token"
    print(f"{engine.served.name}: http://{shown}:{port} answers {who}, {how}; Ctrl-C ends it", flush=True)
    serve(app, taken, limits.seconds)
    return 0
