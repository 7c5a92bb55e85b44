"""The base of every options class: typed, closed to unknown keys, frozen."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pydantic

from rsml.utils.errors import UserError

MOST = 1_000_000
"""The greatest whole number of an option that states no bound of its own: of more steps or images no training ends."""
LARGEST_SEED = 2**32 - 1
_LARGEST = 3.4e38  # of 32-bit numbers, which is what options are computed with
_LONGEST, _DEEPEST, _MANY = 4096, 20, 10_000


class Settings(pydantic.BaseModel):
    """Options whose unknown keys are refused and whose defaults are checked like given values.

    Whatever an option is about, it holds no NUL, no text that no path has room for, no whole number beyond its own
    bound or `most`, and no number that 32 bits cannot hold.
    """

    most: ClassVar[int] = MOST

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _bearable(cls, value: Any, about: pydantic.ValidationInfo) -> Any:
        bounds = cls.model_fields[about.field_name or ""].metadata
        own = any(getattr(bound, name, None) is not None for bound in bounds for name in ("le", "lt"))
        _check_bearable(value, LARGEST_SEED if own or isinstance(value, dict) else cls.most)
        return value

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


def _check_bearable(value: Any, most: int, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"lists in lists, more than {_DEEPEST} deep")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("holds a NUL, which no name or path may")
        if len(value) > _LONGEST:
            raise ValueError(f"{len(value)} letters; expected {_LONGEST} at most")
    elif isinstance(value, int) and abs(value) > most:
        raise ValueError(f"expected {most} at most")
    elif isinstance(value, float) and abs(value) > _LARGEST:
        raise ValueError(f"expected a number up to {_LARGEST:g}")
    elif isinstance(value, (tuple, list, dict)):
        if len(value) > _MANY:
            raise ValueError(f"{len(value)} values; expected {_MANY} at most")
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_bearable(item, most, depth + 1)


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
        found = "" if isinstance(first["input"], dict) else f" is {_short(first['input'])}, but"
        what = f"'{key}'{found}: " if first["loc"] else ""
        text = f"{subject}: {what}{first['msg'].removeprefix('Value error, ')}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return UserError(" ".join(f"{text}{more}".split()))


def _short(value: Any) -> str:
    # Python writes no whole number of thousands of digits.
    shown = repr(value) if not isinstance(value, int) or value.bit_length() < 256 else "a huge number"
    return shown if len(shown) <= 120 else f"{shown[:100]}...{shown[-10:]}"
