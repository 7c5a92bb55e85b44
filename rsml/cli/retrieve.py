"""Find the scenes most alike: python -m rsml.retrieval index | search | measure"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rsml.retrieval",
        description="Embed an archive of images with a trained model, search it, and measure how well that works.",
        epilog="Exit code 0: all is well; 2: bad input; 3: some images could not be read, all others were used.",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="index | search | measure")
    model = {"metavar": "RUN_OR_CHECKPOINT", "help": "a run folder, or a .keras / .h5 file that train.py made"}

    index = jobs.add_parser(
        "index",
        help="embed images into an index folder",
        description="Embed images into an index folder. Interrupted, the same command goes on where it stopped; "
        "repeated later, it embeds only images that are new or have changed.",
    )
    index.add_argument("model", **model)
    index.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders, globs, @list.txt, or - for a list on stdin (default: the images of the run)",
    )
    index.add_argument("--out", required=True, metavar="FOLDER", help="the index folder")
    _add_data(index)
    index.add_argument(
        "--split",
        default="all",
        choices=["train", "valid", "test", "all"],
        help="part of the data to embed (default: %(default)s)",
    )
    index.add_argument(
        "--approximate",
        choices=["hnsw", "ivf"],
        help="add an approximate index, for millions of images; hnsw finds more, ivf is quicker to build",
    )
    _add_embedding(index)

    search = jobs.add_parser(
        "search",
        help="find the images most alike",
        description="Find the images of an index that are most alike. An image that is in the index does not find "
        "itself, and its labels are known; those of others are what the model says.",
    )
    search.add_argument("folder", metavar="INDEX", help="the index folder")
    search.add_argument("images", nargs="*", metavar="IMAGE", help="images, folders, globs, @list.txt, or -")
    search.add_argument(
        "--row", dest="rows", type=int, nargs="+", default=[], metavar="N", help="rows of the index instead of images"
    )
    search.add_argument(
        "--model", metavar=model["metavar"], help="the model that made the index, if it has moved since"
    )
    search.add_argument("--root", metavar="FOLDER", help="where the images of the index lie now, if they were moved")
    search.add_argument("-k", type=int, default=10, help="neighbours of each query (default: %(default)s)")
    search.add_argument("--exact", action="store_true", help="search exactly, though there is an approximate index")
    search.add_argument("--keep-self", action="store_true", help="let an image of the index find itself")
    search.add_argument("--out", default="neighbours.csv", metavar="FILE", help="table (default: %(default)s)")
    search.add_argument(
        "--figure", default="neighbours.png", metavar="FILE", help="contact sheet (default: %(default)s)"
    )
    search.add_argument("--no-figure", dest="figure", action="store_const", const=None, help="draw no contact sheet")
    _add_running(search)

    measure = jobs.add_parser(
        "measure",
        help="measure retrieval at R, and the KNN classifier",
        description="Measure the papers' protocol: every image of one part asks, the other part answers.",
    )
    measure.add_argument("model", **model)
    _add_data(measure)
    for name, default in (("queries", "test"), ("archive", "train")):
        measure.add_argument(
            f"--{name}",
            default=default,
            choices=["train", "valid", "test", "all"],
            help=f"part of the data that are the {name} (default: %(default)s)",
        )
    measure.add_argument("--at", type=int, nargs="+", metavar="R", help="images retrieved (default: 5 10 20 50)")
    measure.add_argument("-k", type=int, default=10, help="neighbours that vote (default: %(default)s)")
    measure.add_argument("--out", metavar="FILE", help="(default: retrieval.json in the run folder, or here)")
    measure.add_argument("--json", dest="as_json", action="store_true", help="print JSON instead of the table")
    _add_embedding(measure)
    return parser.parse_args(arguments)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="SOURCE", help="labelled data instead of the run's: a folder or a CSV file")
    parser.add_argument("--labels", metavar="FILE", help="label file of --data")
    parser.add_argument("--root", metavar="FOLDER", help="where the images of the run lie now, if they were moved")


def _add_embedding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", default="cosine", choices=["cosine", "l2"], help="(default: %(default)s)")
    parser.add_argument("--layer", metavar="NAME", help="layer to embed with (default: embedding, else features)")
    parser.add_argument("--fresh", action="store_true", help="start over")
    _add_running(parser)


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--trust", action="store_true", help="let a model file run the code it carries")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = vars(parse(arguments))
    from rsml.cli.faults import run

    return run(lambda: _start(**options))


def _start(job: str, **options: object) -> int:
    from rsml.retrieval import jobs as commands

    jobs = {"index": commands.make_index, "search": commands.search_index, "measure": commands.measure}
    return jobs[job](**options)


if __name__ == "__main__":
    sys.exit(main())
