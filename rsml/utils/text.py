"""Words for people: a number with its noun, and an exception in a line."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the plural where there is not one of it.

    Examples:
        >>> counted(1, "image"), counted(2, "image"), counted(2, "class", "classes")
        ('1 image', '2 images', '2 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def in_a_line(error: BaseException, limit: int = 200) -> str:
    """The first line of what an exception says, or its type where it says nothing.

    Examples:
        >>> in_a_line(KeyError())
        'KeyError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]
