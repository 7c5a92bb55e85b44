"""Words for people: a number with its noun."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the plural where there is not one of it.

    Example:
        >>> counted(1, "image"), counted(2, "image"), counted(2, "class", "classes")
        ('1 image', '2 images', '2 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
