"""A process that draws a share of the scenes: run as a script, with its task as JSON on standard input."""

import json
import sys
import types
from pathlib import Path


def main() -> None:
    """Draws the scenes of the task."""
    # `import rsml` loads TensorFlow, which drawing does not need: two empty packages stand in for it here.
    here = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == here:
        del sys.path[0]
    for name, folder in (("rsml", here.parents[1]), ("rsml.data", here.parent)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    from rsml.data.scenes.writing import write_one

    task = json.load(sys.stdin)
    folder = Path(task.pop("folder"))
    for index in task.pop("indices"):
        write_one(folder, index, **task)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
