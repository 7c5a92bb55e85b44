"""The one exception that stands for a fault of the user's input."""


class UserError(Exception):
    """A fault that the user can mend, described in one line.

    The message names the file or option, says what was expected and what was found, and ends with what to do.
    The scripts print it without a traceback and exit with code 2. Line breaks, bytes that are no text and other
    characters without a picture, which names in foreign files may hold, are shown as escapes.
    """

    def __init__(self, message: str = "") -> None:
        shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message))
        super().__init__("".join(shown))
