"""Small random mutations of the code, each against the tests that mirror its file: how many are caught, and which not.

    python benchmarks/mutants.py [--rooms losses graph ...] [--count 200] [--seed 0] [--slow]

Prints every survivor as a difference of lines, and the score. The tree is copied; nothing here is changed. A mutant
whose tests run longer than ten times the unchanged ones counts as caught. Some survivors mean what the original means.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("layers", "losses", "graph", "evaluation", "data", "training", "methods", "models", "retrieval", "geo")
_COPIED = ("rsml", "tests", "configs", "pyproject.toml", "train.py", "predict.py", "divide_dataset.py")
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult,
}  # fmt: skip
Change = Callable[[], None]


def changes(tree: ast.Module) -> Iterator[Change]:
    """Every small mutation of a file, each to be made in its tree; messages, types and texts are left alone."""
    for node in _code(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
            yield _set(node.ops, 0, _COMPARED[type(node.ops[0])]())
        elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED and not _is_text(node.left):
            yield lambda node=node: setattr(node, "op", _COMPUTED[type(node.op)]())  # type: ignore[misc]
        elif isinstance(node, ast.BoolOp):
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield lambda node=node, other=other: setattr(node, "op", other())  # type: ignore[misc]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield lambda node=node: setattr(node, "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not())  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield lambda node=node: setattr(node, "value", not node.value)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            yield lambda node=node: setattr(node, "value", node.value + 1 if node.value in (0, 1) else node.value * 1.5)  # type: ignore[misc]
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
            yield lambda node=node: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))  # type: ignore[misc]
        elif isinstance(node, ast.Call):
            for position, keyword in enumerate(node.keywords):
                if keyword.arg:
                    yield lambda node=node, position=position: node.keywords.pop(position)  # type: ignore[misc]
        for field in ("body", "orelse"):
            lines = getattr(node, field, None)
            for position, line in enumerate(lines if isinstance(lines, list) else ()):
                if isinstance(line, ast.AugAssign) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)):
                    yield _set(lines, position, ast.Pass())


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    skipped = (ast.Raise, ast.JoinedStr, ast.AnnAssign, ast.Assert, ast.Import, ast.ImportFrom)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _code(ast.Expression(node.value))
        if isinstance(node, skipped) or (isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "get_config")):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("logger.", "warnings.")):
            continue
        if isinstance(node, ast.arg):
            continue
        yield node
        yield from _code(node)


def _set(place: list, position: int, value: ast.AST) -> Change:  # type: ignore[type-arg]
    return lambda: place.__setitem__(position, value)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def mutant(source: str, draw: random.Random) -> str | None:
    """The file with one random mutation, or None where there is none to make."""
    tree = ast.parse(source)
    found = list(changes(tree))
    if not found:
        return None
    draw.choice(found)()
    try:
        return ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
    except (ValueError, TypeError):
        return None


def tests_of(file: Path) -> list[str]:
    """The test files that mirror a file: the one of its name, else those of its room that name it, else its room."""
    room = file.relative_to(ROOT / "rsml").parts[0]
    folder = ROOT / "tests" / ("data_" if room == "data" else room)
    own = folder / f"test_{file.stem}.py"
    naming = [test for test in sorted(folder.glob("test_*.py")) if f"{room}.{file.stem} " in test.read_text()]
    found = sorted({*([own] if own.is_file() else []), *naming}) or sorted(folder.glob("test_*.py"))
    return [str(test.relative_to(ROOT)) for test in found]


def passes(tree: Path, tests: list[str], slow: bool, limit: float | None) -> bool:
    """Whether tests pass in a tree."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    command += [] if slow else ["-m", "not slow"]
    try:
        done = subprocess.run(command, cwd=tree, env=_env(tree), capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _env(tree: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=ROOMS)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", action="store_true", help="with the tests that are marked slow")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    files = [file for room in options.rooms for file in sorted((ROOT / "rsml" / room).rglob("*.py"))]
    weights = [len(file.read_text().splitlines()) for file in files]
    caught = tried = 0
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place)
        for name in _COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, tree / name)  # type: ignore[operator]
        while tried < options.count:
            file = draw.choices(files, weights)[0]
            source, tests = file.read_text(), tests_of(file)
            changed = mutant(source, draw)
            plain = ast.unparse(ast.parse(source))
            if changed is None or changed == plain or not tests:
                continue
            key = " ".join(tests)
            if key not in taken:
                begun = time.monotonic()
                if not passes(tree, tests, options.slow, None):
                    print(f"{key}: fails unchanged, left out", flush=True)
                    taken[key] = -1
                else:
                    taken[key] = time.monotonic() - begun
            if taken[key] < 0:
                continue
            target = tree / file.relative_to(ROOT)
            target.write_text(changed)
            survives = passes(tree, tests, options.slow, 30 + 10 * taken[key])
            target.write_text(source)
            tried, caught = tried + 1, caught + (not survives)
            if survives:
                lines = difflib.unified_diff(plain.splitlines(), changed.splitlines(), lineterm="", n=0)
                print(f"survives {tried}: {file.relative_to(ROOT)}", *list(lines)[3:], sep="\n  ", flush=True)
    print(f"seed {options.seed}: {caught} of {tried} mutants caught ({100 * caught / max(1, tried):.0f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
