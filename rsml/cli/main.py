"""The command `rsml VERB ...`: finds the verb's file, reads its options, runs it."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import rsml
from rsml.cli.faults import run
from rsml.cli.parser import Parser
from rsml.utils.errors import UserError

VERBS = (
    "train", "predict", "test", "compare", "average", "report", "explain", "suspects",
    "divide", "retrieve", "export", "geo", "convert", "check", "serve", "app",
)  # fmt: skip
"""Each is a file of this folder: `add_arguments(parser)`, `run(options)`, a first line that is its help, and, where its
results are what it logs, `LOG = "stdout"`."""


def make_parser() -> Parser:
    """The parser of all verbs; light, as no verb's file imports what it runs."""
    parser = Parser(
        prog="rsml",
        description=(rsml.__doc__ or "").splitlines()[0],
        epilog="Exit code 0: all is well; 2: bad input; 3: some images, scenes or tiles could not be read, all others "
        "were used; 4: some formats could not be written; 130: interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"rsml {rsml.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        module = importlib.import_module(f"rsml.cli.{verb}")
        says = (module.__doc__ or "").splitlines()[0]
        one = verbs.add_parser(verb, help=says[0].lower() + says[1:].rstrip("."), description=says)
        module.add_arguments(one)
        one.set_defaults(run=module.run, log=getattr(module, "LOG", "stderr"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Args:
        arguments: The words after `rsml`; those of this process if None.
    """
    return run(lambda: _start(arguments))


def _start(arguments: Sequence[str] | None) -> int | None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    for place, word in enumerate(words):
        if not word or "\0" in word:
            of = f"{words[place - 1]}: " if place and words[place - 1].startswith("-") else ""
            what = "a word with a NUL" if word else "an empty word"
            raise UserError(f"{of}{what} on the command line; expected a value")
    options = make_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=getattr(sys, options.log))
    logging.getLogger("absl").setLevel(logging.ERROR)
    return options.run(options)
