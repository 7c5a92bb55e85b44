"""Words for people: a number with its noun, some of many names, and an exception in a line."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the plural where there is not one of it.

    Examples:
        >>> counted(1, "image"), counted(2, "image"), counted(2, "class", "classes")
        ('1 image', '2 images', '2 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are.

    Examples:
        >>> some(["sand", "sea", "trees"], 2)
        'sand, sea and 1 more'
    """
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def in_a_line(error: BaseException, limit: int = 200) -> str:
    """The first line of what an exception says, or its type where it says nothing.

    Examples:
        >>> in_a_line(KeyError())
        'KeyError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]
