"""A process that does jobs: run with a module and a function; tasks and answers are lines of JSON."""

import importlib
import json
import sys
import time
import traceback

from rsml.utils.errors import UserError


def main(module: str, function: str) -> None:
    """Answers every task on standard input until it ends."""
    job = getattr(importlib.import_module(module), function)
    answers, sys.stdout = sys.stdout, sys.stderr
    done, reported = 0, time.monotonic()

    def answer(kind: str, value: object) -> None:
        print(json.dumps([kind, value]), file=answers, flush=True)

    def report(number: int) -> None:
        nonlocal done, reported
        done += number
        if time.monotonic() - reported > 0.2:
            answer("progress", done)
            done, reported = 0, time.monotonic()

    for line in sys.stdin:
        try:
            result = job(json.loads(line), report)
            answer("progress", done)
            done = 0
            answer("result", result)
        except UserError as error:
            answer("user_error", str(error))
        except OSError as error:
            # A name without a number is what raster libraries raise: a fault of ours, if it comes to here.
            if error.errno is None:
                answer("crash", traceback.format_exc())
            else:
                answer("os_error", [error.errno, error.strerror, error.filename and str(error.filename)])
        except Exception:
            answer("crash", traceback.format_exc())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
