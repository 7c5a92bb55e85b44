"""JSON of bounded size and depth, without repeated keys and without numbers that JSON has no word for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsml.utils.guard.faults import Damaged, Refusal, as_damaged

MAX_BYTES = 64 << 20
MAX_DEPTH = 100
_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def read_json(
    path: str | Path,
    *,
    kind: type = dict,
    allow_nan: bool = False,
    max_bytes: int = MAX_BYTES,
    advice: str = "get the file again",
) -> Any:
    """Reads a JSON file; see `parse_json`.

    Args:
        path: The file.
        kind: What its outermost value must be.
        allow_nan: Whether NaN and Infinity may stand in it.
        max_bytes: Its greatest size.
        advice: What to do when it is damaged, the end of the line.
    """
    with as_damaged(str(path), advice), open(path, "rb") as file:
        # One byte more than there should be shows that there are more; a buffer of all that is allowed is not needed.
        text = file.read(min(max_bytes, os.fstat(file.fileno()).st_size) + 1)
    return parse_json(text, str(path), kind=kind, allow_nan=allow_nan, max_bytes=max_bytes, advice=advice)


def parse_json(
    text: str | bytes,
    subject: str,
    *,
    kind: type = dict,
    allow_nan: bool = False,
    max_bytes: int = MAX_BYTES,
    advice: str = "get the file again",
) -> Any:
    """Parses JSON that may come from anywhere.

    Refused are: more than `max_bytes`, what is not UTF-8, more than 100 levels, a key twice in one object, NaN and
    Infinity (also as 1e999), an outermost value of another kind.

    Args:
        text: The JSON.
        subject: What is named in a fault.
        kind: What the outermost value must be.
        allow_nan: Whether NaN and Infinity may stand in it.
        max_bytes: The greatest size.
        advice: What to do when it is damaged, the end of the line.

    Examples:
        >>> parse_json('{"epochs": 5}', "config.json")
        {'epochs': 5}
        >>> parse_json('{"a": 1, "a": 2}', "config.json")
        Traceback (most recent call last):
        rsml.utils.guard.faults.Damaged: config.json: the key 'a' stands in it twice; get the file again
    """
    if len(text) > max_bytes:
        raise Damaged(f"{subject}: more than {max_bytes >> 20} MiB of JSON; {advice}")
    with as_damaged(subject, advice):
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=None if allow_nan else _no_constant)
        if any(depth > MAX_DEPTH for depth, _ in _walk(value)):
            raise Refusal(f"more than {MAX_DEPTH} levels")
        if not allow_nan and any(isinstance(item, float) and not math.isfinite(item) for _, item in _walk(value)):
            raise Refusal("a number too large")
    if not isinstance(value, kind):
        raise Damaged(f"{subject}: holds {type(value).__name__}, expected {_WORDS.get(kind, kind.__name__)}; {advice}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refusal(f"the key {twice[:80]!r} stands in it twice")
    return made


def _no_constant(word: str) -> float:
    raise Refusal(f"{word} is no number")


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """All values inside with their depth, without recursion."""
    waiting = [(1, value)]
    while waiting:
        depth, item = waiting.pop()
        yield depth, item
        if isinstance(item, (dict, list)):
            waiting.extend((depth + 1, inner) for inner in (item.values() if isinstance(item, dict) else item))
