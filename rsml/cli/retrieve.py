"""Find the scenes most alike: embed an archive with a trained model, search it, measure how well that works."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rsml.cli.options import SPLITS, add, out_file, out_folder, picked, positive, seed

_RUNNING = ("batch_size", "trust")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="index | search | measure")
    _add_index(jobs)
    _add_search(jobs)
    _add_measure(jobs)


def _add_index(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    index = jobs.add_parser(
        "index",
        help="embed images into an index folder",
        description="Embed images into an index folder. Interrupted, the same command goes on where it stopped; "
        "repeated later, it embeds only images that are new or have changed.",
    )
    add(index, "model")
    index.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders, globs, @list.txt, or - for a list on stdin (default: the images of the run)",
    )
    add(index, "--out", type=out_folder, required=True, metavar="FOLDER", help="the index folder")
    add(index, "--data", "--labels", "--root")
    add(index, "--split", default="all")
    index.add_argument(
        "--approximate",
        choices=["hnsw", "ivf"],
        help="add an approximate index, for millions of images; hnsw finds more, ivf is quicker to build",
    )
    _add_embedding(index)


def _add_search(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    search = jobs.add_parser(
        "search",
        help="find the images most alike",
        description="Find the images of an index that are most alike. An image that is in the index does not find "
        "itself, and its labels are known; those of others are what the model says.",
    )
    search.add_argument("index", metavar="INDEX", help="the index folder")
    search.add_argument("images", nargs="*", metavar="IMAGE", help="images, folders, globs, @list.txt, or -")
    search.add_argument(
        "--row", dest="rows", type=seed, nargs="+", default=[], metavar="N", help="rows of the index instead of images"
    )
    search.add_argument("--model", metavar="RUN_OR_CHECKPOINT", help="the model of the index, if it has moved since")
    add(search, "--root", help="where the images of the index lie now, if they were moved")
    search.add_argument("-k", type=positive, default=10, help="neighbours of each query (default: %(default)s)")
    search.add_argument("--exact", action="store_true", help="search exactly, though there is an approximate index")
    search.add_argument("--keep-self", action="store_true", help="let an image of the index find itself")
    add(search, "--out", default="neighbours.csv", help="table (default: %(default)s)")
    search.add_argument(
        "--figure", type=out_file, default="neighbours.png", metavar="FILE", help="contact sheet (default: %(default)s)"
    )
    search.add_argument("--no-figure", dest="figure", action="store_const", const=None, help="draw no contact sheet")
    add(search, "--batch-size", "--trust")


def _add_measure(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    measure = jobs.add_parser(
        "measure",
        help="measure retrieval at R, and the KNN classifier",
        description="Measure the papers' protocol: every image of one part asks, the other part answers.",
    )
    add(measure, "model", "--data", "--labels", "--root")
    for name, default in (("queries", "test"), ("archive", "train")):
        measure.add_argument(
            f"--{name}",
            default=default,
            choices=[*SPLITS, "all"],
            help=f"part of the data that are the {name} (default: %(default)s)",
        )
    measure.add_argument("--at", type=positive, nargs="+", metavar="R", help="images retrieved (default: 5 10 20 50)")
    measure.add_argument("-k", type=positive, default=10, help="neighbours that vote (default: %(default)s)")
    add(measure, "--out", help="(default: retrieval.json in the run folder, or here)")
    _add_embedding(measure)
    add(measure, "--json")


def _add_embedding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distance", default="cosine", choices=["cosine", "l2"], help="how vectors are compared (default: %(default)s)"
    )
    parser.add_argument("--layer", metavar="NAME", help="layer to embed with (default: embedding, else features)")
    add(parser, "--fresh", "--batch-size", "--trust")


def run(options: argparse.Namespace) -> int:
    """Does one of the three jobs."""
    from rsml.prediction.find_model import find_model
    from rsml.utils.errors import UserError
    from rsml.utils.packages import require
    from rsml.utils.quiet import start_tensorflow

    if options.job == "search":
        if not options.images and not options.rows:
            raise UserError(f"{options.index}: nothing asked; give images, or rows of the index with --row")
    else:
        _, of = find_model(options.model)
    if options.job == "measure" and options.out is None:
        out_file(str(of.files.retrieval_metrics) if of else "retrieval.json")
    if options.job == "index":
        if options.approximate:
            require("faiss")
        if options.images and (options.data or options.split != "all"):
            raise UserError(
                f"{options.images[0]}: images and --data or --split are two different jobs; give one of them"
            )
    start_tensorflow()
    return {"index": _index, "search": _search, "measure": _measure}[options.job](options)


def _index(options: argparse.Namespace) -> int:
    from rsml.retrieval.jobs import make_index
    from rsml.utils.text import counted

    index, width, layer, bad = make_index(
        options.model,
        options.out,
        metric=options.distance,
        **picked(
            options, "images", "data", "labels", "root", "split", "approximate", "layer", "fresh", "batch_size", "trust"
        ),
    )
    about = index.about["approximate"]
    kind = f", {about['kind']} index with recall@10 {about['recall@10']:.3f}" if about else ""
    size = f"{counted(len(index), 'image')}, {counted(width, 'value')} each ({layer}), {options.distance}"
    print(f"{options.out}: {size}{kind}")
    return _tell(bad)


def _search(options: argparse.Namespace) -> int:
    from rsml.retrieval.jobs import SHEET_QUERIES, draw_sheet, search_index, write_table
    from rsml.utils.text import counted

    answers = search_index(
        options.index,
        **picked(options, "images", "rows", "model", "root", "k", "exact", "keep_self", *_RUNNING),
    )
    write_table(options.out, answers)
    for query, found in answers.each()[:SHEET_QUERIES]:
        print(f"{query.name}: " + ", ".join(f"{answers.samples.paths[row]} {value:.3f}" for row, value in found))
    written = options.out
    if options.figure is not None:
        draw_sheet(options.figure, answers)
        written += f" and {options.figure}"
    asked = f"{counted(len(answers.queries), 'query', 'queries')} against {counted(len(answers.index), 'image')}"
    print(f"{asked} in {1000 * answers.seconds:.0f} ms: {written}", file=sys.stderr)
    return _tell(answers.bad)


def _measure(options: argparse.Namespace) -> int:
    from rsml.retrieval.jobs import measure
    from rsml.retrieval.protocol import measures_table
    from rsml.utils.text import counted

    measured, file, bad = measure(
        options.model,
        metric=options.distance,
        **picked(
            options,
            "data",
            "labels",
            "root",
            "queries",
            "archive",
            "at",
            "k",
            "out",
            "layer",
            "fresh",
            "batch_size",
            "trust",
        ),
    )
    if options.as_json:
        print(json.dumps(measured))
    else:
        asked = counted(measured["queries"], "query", "queries")
        print(f"{asked} ({options.queries}), archive of {measured['archive']} ({options.archive})")
        print(f"{measures_table(measured)}\nkept in {file}")
    return _tell(bad)


def _tell(bad: Sequence[Exception]) -> int:
    for fault in bad:
        print(f"skipped: {fault}", file=sys.stderr)
    return 3 if bad else 0
