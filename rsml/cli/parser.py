"""A command line whose options and operands may come in any order, and whose faults are one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rsml.utils.errors import UserError


class Parser(argparse.ArgumentParser):
    """`argparse`, but for the order of the words and the way faults are reported.

    An option of several values takes words as long as they can be its values: `--seeds 0 1 RUN` leaves RUN an operand.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})
        self._has_jobs = False

    def add_subparsers(self, **options: Any) -> Any:
        self._has_jobs = True
        return super().add_subparsers(**options)

    def parse_known_args(  # type: ignore[override]  # one form for all its overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if not self._has_jobs:
            words = self._operands_first(words)
        found, unknown = super().parse_known_args(words, namespace)
        if unknown and not self._has_jobs:
            self.error(f"{unknown[0]}: not expected here")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def _operands_first(self, words: list[str]) -> list[str]:
        operands: list[str] = []
        options: list[str] = []
        known = self._option_string_actions
        while words:
            word = words.pop(0)
            if word == "--":
                operands += words
                break
            name, equals, _ = word.partition("=")
            if not _is_option(word):
                operands.append(word)
            elif name not in known and not name.startswith("--") and name[:2] in known:
                options.append(word)  # -k5
            elif name not in known:
                from rsml.utils.settings import nearest

                self.error(f"{name}: unknown option{nearest(name, [one for one in known if one.startswith('--')])}")
            elif equals:
                options.append(word)
            else:
                options += _with_values(name, known[name], words)
        return [os.path.join(".", word) if _is_option(word) else word for word in operands] + options


def _with_values(name: str, action: argparse.Action, words: list[str]) -> list[str]:
    """An option and its values, which are taken from the words that follow it."""
    if action.nargs is None and words and words[0] != "--":
        value = words.pop(0)
        # A value may begin with a dash: -9999.
        return [f"{name}={value}"] if name.startswith("--") and not _is_option(value) else [name, value]
    values: list[str] = []
    most = action.nargs if isinstance(action.nargs, int) else len(words) if action.nargs in ("+", "*") else 0
    while words and len(values) < most and not _is_option(words[0]):
        if values and action.nargs == "+" and not _fits(action, words[0]):
            break
        values.append(words.pop(0))
    return [name, *values]


def _fits(action: argparse.Action, word: str) -> bool:
    try:
        value = action.type(word) if callable(action.type) else word
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return False
    return action.choices is None or value in action.choices


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not re.match(r"-\.?\d", word)
