"""The base of every options class: typed, closed to unknown keys, frozen."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pydantic

from rsml.utils.errors import UserError


class Settings(pydantic.BaseModel):
    """Options whose unknown keys are refused and whose defaults are checked like given values."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def arguments_for(self, target: Callable[..., Any]) -> dict[str, Any]:
        """The options that a layer or loss takes under the same name, so that none is handed over by hand.

        Examples:
            >>> class Options(Settings):
            ...     heads: int = 6
            ...     after: str = "stage2"
            >>> def layer(heads, residual=True): ...
            >>> Options(heads=2).arguments_for(layer)
            {'heads': 2}
        """
        taken = inspect.signature(target).parameters
        return {name: getattr(self, name) for name in type(self).model_fields if name in taken}


def nearest(word: str, known: Iterable[str]) -> str:
    """Words an unknown name probably meant, as ` (did you mean 'x'?)`, else all that are known."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1)
    if close:
        match = next(name for name in names if name.lower() == close[0])
        return f" (did you mean '{match}'?)"
    return f" (known: {', '.join(names)})"


def one_line(error: pydantic.ValidationError, subject: str) -> UserError:
    """A validation error in one line: the first fault whole, the number of the others."""
    faults = error.errors()
    first = faults[0]
    key = ".".join(str(part) for part in first["loc"]) or subject
    if first["type"] == "extra_forbidden":
        text = f"{subject}: unknown key '{key}'"
    else:
        # A fault between several options has all of them for its input, which would bury it.
        found = "" if isinstance(first["input"], dict) else f" is {first['input']!r}, but"
        what = f"'{key}'{found}: " if first["loc"] else ""
        text = f"{subject}: {what}{first['msg'].removeprefix('Value error, ')}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return UserError(" ".join(f"{text}{more}".split()))
