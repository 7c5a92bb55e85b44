"""Damage files of every kind and read them: how many were refused in a line, and whether anything else ever happened.

    python benchmarks/damage.py --count 100000 --seed 0

Each kind is read in a process of its own, in blocks, with a bound on memory, so that a crash of a compiled library or
a read that never ends is counted and does not end the sweep. A survivor of another kind is printed with its seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

BLOCK = 500
MEMORY = 4 << 30
SECONDS = 300


def make_files(folder: Path) -> None:
    """One small good file of each kind."""
    import keras
    import numpy as np

    from tests.weights.test_hostile_files import write_good_files

    write_good_files(folder)
    np.save(folder / "a.npy", np.arange(30.0).reshape(5, 6))
    (folder / "a.json").write_text(json.dumps({"a": [1, {"b": "x" * 50}], "c": None, "k": keras.__version__}))


def reader(name: str) -> Callable[[Path], Any]:
    """What reads a kind of file."""
    from rsml.utils.guard import read_json, read_npy
    from rsml.weights.arrays import read_weights

    return {".npy": read_npy, ".json": read_json}.get(Path(name).suffix, read_weights)


def read_block(file: Path, begin: int, seed: int, answers: Any) -> None:
    """Reads a block of damaged copies; puts the number refused and what else was raised."""
    from rsml.utils.errors import UserError
    from tests.utils.mutate import mutants

    read, refused, strange = reader(file.name), 0, []
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.name
        for number, mutant in enumerate(mutants(file.read_bytes(), BLOCK, seed + begin)):
            path.write_bytes(mutant)
            try:
                read(path)
            except UserError as fault:
                refused += 1
                if "\n" in str(fault):
                    strange.append(f"seed {seed + begin}-{number}: more than a line")
            except BaseException as error:
                strange.append(f"seed {seed + begin}-{number}: {type(error).__name__}: {error}"[:200])
    answers.put((refused, strange))


def main() -> int:
    """Prints a line a kind of file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="inputs a kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        maker = context.Process(target=make_files, args=(Path(folder),))
        maker.start()
        maker.join()
        for file in sorted(Path(folder).iterdir()):
            begun, refused, strange = time.monotonic(), 0, []
            for begin in range(0, options.count, BLOCK):
                answers = context.SimpleQueue()
                process = context.Process(target=read_block, args=(file, begin, options.seed, answers))
                process.start()
                process.join(SECONDS)
                if process.is_alive():
                    process.kill()
                    process.join()
                    strange.append(f"seed {options.seed + begin}: a block took more than {SECONDS} s")
                elif process.exitcode:
                    strange.append(f"seed {options.seed + begin}: the process ended with {process.exitcode}")
                else:
                    one, others = answers.get()
                    refused, strange = refused + one, strange + others
            took = time.monotonic() - begun
            print(f"{file.name:<14} {options.count} read, {refused} refused, {len(strange)} strange, {took:.0f} s")
            for line in strange[:20]:
                print(f"    {line}")
            total += len(strange)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
