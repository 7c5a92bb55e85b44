"""What is wrong with a file, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line


class Damaged(UserError):
    """A file that is not what it should be; the caller may have another to go on with."""


class Refusal(ValueError):
    """Raised where foreign bytes are decoded: what in them is refused, in words; `as_damaged` names the file."""


@contextmanager
def as_damaged(subject: str, advice: str) -> Iterator[None]:
    """Turns whatever a decoder raises inside into one `Damaged`.

    Libraries that meet damaged bytes raise nearly any type (struct.error, OverflowError, RecursionError, KeyError ...),
    so here, and only where foreign bytes are decoded, everything is caught.

    Args:
        subject: The file.
        advice: What to do, the end of the line.
    """
    try:
        yield
    except UserError:
        raise
    except Refusal as refusal:
        raise Damaged(f"{subject}: {refusal}; {advice}") from None
    except PermissionError:
        raise UserError(f"{subject}: cannot be read, no permission; change its rights or name another file") from None
    except FileNotFoundError:
        raise Damaged(f"{subject}: is not there; {advice}") from None
    except MemoryError:
        raise Damaged(f"{subject}: asks for more memory than there is; {advice}") from None
    except Exception as error:
        raise Damaged(f"{subject}: damaged ({type(error).__name__}: {in_a_line(error)}); {advice}") from None
