"""What a command's exit code says."""

BAD_INPUT = 2
"""A fault that the user can mend."""

SOME_BAD = 3
"""Some images, scenes or tiles could not be read; all others were used."""

SOME_UNWRITTEN = 4
"""Some formats could not be written; all others were."""

INTERRUPTED = 130
"""Ctrl-C."""
