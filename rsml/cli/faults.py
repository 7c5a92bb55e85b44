"""Faults of a command become one line and an exit code."""

import errno
import os
import sys
from collections.abc import Callable

from rsml.utils.errors import UserError
from rsml.utils.exit_codes import BAD_INPUT, INTERRUPTED
from rsml.utils.packages import EXTRAS, missing

_LONGEST = 400
_CORE = ("tensorflow", "keras", "pandas", "scipy", "sklearn", "matplotlib", "h5py", "PIL", "tifffile", "imagecodecs")


def run(command: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit code: 2 for a fault the user can mend, 130 after Ctrl-C."""
    try:
        return command() or 0
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing is left to say to it.
        sys.stdout = None
        return 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in (*EXTRAS, *_CORE):
            raise
        return _fail(str(missing(package)))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(
                f"{error.filename or 'disk'}: no space left while writing; finished files are kept; "
                "free some space and run again"
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _fail(
                f"{error.filename}: no permission ({error.strerror}); choose another folder or change its rights"
            )
        if error.errno is None:
            raise
        # Whatever a disk, a path or a name can do; what lies at fault is not in this program.
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "input or output"
        return _fail(f"{where[:200]}: {error.strerror}; finished files are kept; mend it or name another place")
    except MemoryError:
        return _fail("out of memory; make image_size or the batch smaller, or use a machine with more")


def _fail(message: str) -> int:
    # A path or a value of any length is shown by its ends, so that the fault is not lost in it.
    words = (word if len(word) <= _LONGEST else f"{word[:100]}...{word[-60:]}" for word in message.split())
    print("error: " + " ".join(words), file=sys.stderr)
    return BAD_INPUT
