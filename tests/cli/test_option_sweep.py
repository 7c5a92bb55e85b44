"""Every option of every verb, as its parser names it, with values that nobody should give: accepted or one line."""

import argparse
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.cli.main import VERBS, make_parser
from rsml.cli.main import main as rsml
from rsml.cli.options import out_file, out_folder, out_place
from rsml.config import Experiment

STRANGE = [
    "", "\0", "a\0b", "nan", "inf", "-inf", "-1", "0", "1.5", "2000000000", "9" * 400, "1e400", "x" * 300, "y" * 5000,
    "z/" * 3000, "caf\udce9", "../..", "/dev/null", "file/below", "file", "folder", "[" * 3000, "{", "=", "a=", "=b",
    "name=" + "[" * 3000, "training.epochs=2000000000", "seed=-1", "--", "*", "@", "@file", ",", "%s", "~nobody/x",
]  # fmt: skip
BASES = {
    "train": ["--set", "data.source=images"],
    "predict": ["run", "images"],
    "divide": ["images", "divided"],
    "compare": ["--name", "two", "--variant", "plain", "methods=plain"],
    "test": ["run", "run"],
    "retrieve index": ["run", "--out", "index"],
    "retrieve search": ["index", "images"],
    "retrieve measure": ["run"],
    "export": ["run"],
    "geo crop": ["scene.tif", "--out", "tiles"],
    "geo supervise": ["tiles", "--classes", "geokr"],
    "convert": ["old.h5", "new.keras"],
    "check": ["run"],
    "explain": ["run", "images"],
    "average": ["run", "--name", "joined"],
    "report": ["run"],
    "suspects": ["images"],
    "serve": ["run"],
    "app": ["run"],
}
"""A command line of every verb that nothing is wrong with; a verb that is missing here fails the sweep."""


class Begun(BaseException):
    """The command has nothing against its words and begins to work."""


def begin(*_: object, **__: object) -> None:
    raise Begun


def leaves(parser, names=()):
    jobs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not jobs:
        yield " ".join(names), parser
    for job in jobs:
        for name, below in job.choices.items():
            yield from leaves(below, (*names, name))


PARSER = make_parser()
LEAVES = dict(leaves(PARSER))
ACTIONS = [
    (name, action)
    for name, parser in LEAVES.items()
    for action in parser._actions
    if not isinstance(action, argparse._HelpAction)
]


def title(case):
    name, action = case
    return f"{name} {action.option_strings[0] if action.option_strings else action.dest}"


def words_with(name, action, value):
    """A command line in which one option, or one operand, is this value."""
    if action.option_strings:
        flag = action.option_strings[-1]
        if action.nargs == 0:
            return [*name.split(), *BASES[name], f"{flag}={value}"]
        more = [value] * (action.nargs - 1) if isinstance(action.nargs, int) else []
        return [*name.split(), *BASES[name], flag, value, *more]
    operands = [one.dest for one in LEAVES[name]._actions if not one.option_strings]
    words = list(BASES[name])
    words[min(operands.index(action.dest), len(words))] = value
    return [*name.split(), *words]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the command lines name, two folders deep."""
    folder = tmp_path_factory.mktemp("sweep") / "a" / "b"
    for number in range(8):
        file = folder / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(Experiment(name="run").text())
    (folder / "run" / "predictions.csv").write_text("path,a\nx.png,1\n")
    for name in ("run/best.keras", "old.h5", "scene.tif", "file"):
        (folder / name).write_bytes(b"none")
    (folder / "folder").mkdir()
    (folder / "tiles").mkdir()
    (folder / "index").mkdir()
    (folder / "index" / "index.json").write_text(json.dumps({}))
    return folder


@pytest.fixture
def attempt(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("rsml.cli.main.make_parser", lambda: PARSER)
    monkeypatch.setattr("rsml.utils.quiet.start_tensorflow", begin)
    monkeypatch.setattr("rsml.comparison.grid.compare", begin)
    monkeypatch.setattr("rsml.comparison.paired.compare_runs", begin)
    monkeypatch.setattr("rsml.geo.crop.crop", begin)
    monkeypatch.setattr("rsml.geo.supervise.supervise", begin)
    monkeypatch.setattr("rsml.data.divide.divide", begin)

    monkeypatch.setattr("rsml.utils.packages.require", lambda *_, **__: None)
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("rsml.app.listening.bind", begin)

    def run(words):
        capsys.readouterr()
        try:
            code = rsml(words)
        except Begun:
            return None
        said = capsys.readouterr().err
        if code == 2:
            assert [line.startswith("error: ") for line in said.splitlines()].count(True) <= 1, said
            assert said.splitlines()[-1:] == [] or said.splitlines()[-1].startswith("error: "), said
            assert len(said) < 2000, said
        assert code in (0, 2, 3)
        return said or "said on its output"

    return run


def test_every_verb_has_a_command_line_that_is_accepted(attempt):
    assert set(LEAVES) == set(BASES) & set(LEAVES) and set(VERBS) == {name.split()[0] for name in LEAVES}
    for name in LEAVES:
        said = attempt([*name.split(), *BASES[name]])
        assert said is None or name == "check", (name, said)


@pytest.mark.parametrize("case", ACTIONS, ids=map(title, ACTIONS))
def test_a_strange_value_is_accepted_or_refused_in_one_line(attempt, case):
    for value in STRANGE:
        said = attempt(words_with(*case, value))
        if value in ("", "\0", "a\0b"):
            assert said is not None, f"{value!r} was accepted"


@pytest.mark.parametrize("case", [c for c in ACTIONS if c[1].type in (out_file, out_folder, out_place)], ids=title)
def test_an_output_is_checked_before_the_work(attempt, case):
    kind = case[1].type
    wrong = ["folder"] if kind is out_file else ["file"] if kind is out_folder else []
    for value in ["x" * 300, "file/below", "/dev/null", *wrong]:
        assert attempt(words_with(*case, value)) is not None, value


def test_every_option_that_is_written_to_is_checked():
    writes = {"out", "dest", "figure", "picture"}
    unchecked = [
        title(case)
        for case in ACTIONS
        if case[1].dest in writes and case[1].nargs != 0 and case[1].type not in (out_file, out_folder, out_place)
    ]
    assert unchecked == []


def test_every_number_has_bounds(attempt):
    """No option that is a number takes one that no machine bears, nor what is none."""
    numbers = [
        case
        for case in ACTIONS
        if callable(case[1].type)
        and not case[1].choices
        and case[1].type not in (out_file, out_folder, out_place)
        and accepts(case[1], "8")
    ]
    assert len(numbers) > 30
    for case in numbers:
        for value in ("9" * 400, "inf", "-inf", "1e400"):
            assert not accepts(case[1], value), (title(case), value)


def accepts(action, value):
    try:
        action.type(value)
    except argparse.ArgumentTypeError:
        return False
    return True


def test_a_bad_default_place_is_refused_before_the_work(attempt, place):
    """What is written without --out is checked as well."""
    for name, at in (("predict", "predictions.csv"), ("retrieve search", "neighbours.csv"), ("train", "checkpoint")):
        blocked = Path(at)
        blocked.mkdir() if blocked.suffix else blocked.write_text("")
        try:
            assert at in (attempt([*name.split(), *BASES[name]]) or ""), name
        finally:
            blocked.rmdir() if blocked.suffix else blocked.unlink()
