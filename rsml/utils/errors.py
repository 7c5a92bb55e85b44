"""The one exception that stands for a fault of the user's input."""


class UserError(Exception):
    """A fault that the user can mend, told in one line.

    The message names the file or option, says what was expected and what was found, and ends with what to do.
    The scripts print it without a traceback and exit with code 2.
    """
