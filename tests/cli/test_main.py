"""The command as a whole: light, in any order, the same through every door, and as the documents say."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rsml.cli.main import VERBS, main, make_parser
from rsml.cli.options import SHARED
from rsml.utils.errors import UserError

ROOT = Path(__file__).parents[2]
DOORS = {"train.py": "train", "predict.py": "predict", "divide_dataset.py": "divide"}
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "checkpoint" / "README.md",
        *(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "architecture.md"}),
    ]
)
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def parse(*words):
    return make_parser().parse_args([str(word) for word in words])


def leaves(parser=None):
    """Every parser that has no jobs below it."""
    parser = parser or make_parser()
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        return [parser]
    return [leaf for action in below for one in action.choices.values() for leaf in leaves(one)]


def test_help_and_early_faults_of_every_verb_load_nothing_heavy(tmp_path):
    code = """
import contextlib, io, sys, time
from rsml.cli.main import VERBS, main
words = [["--help"], ["--version"]]
for verb in VERBS:
    words += [[verb, "--help"], [verb, "--no-such-option"]]
words += [["retrieve", job, "--help"] for job in ("index", "search", "measure")]
words += [["geo", job, "--help"] for job in ("crop", "supervise")]
words += [
    ["train", "--print-config", "--set", "methods=signa+r4c"],
    ["train", "--set", "training.epoch=5"],
    ["train", "--config", "nowhere"],
    ["train", "--set", "name=../up"],
    ["predict"],
    ["predict", "nothing.keras", "a.png"],
    ["predict", "nothing.png"],
    ["convert", "nothing.h5", "x.keras", "--class-names", "a,b"],
    ["convert", "nothing.h5", "x.txt", "--class-names", "a,b"],
    ["export", "nothing"],
    ["retrieve", "index", "nothing", "--out", "x"],
    ["retrieve", "search", "nothing"],
    ["test", "a", "b"],
    ["compare", "--name", "x"],
    ["compare", "--name", "x", "--variant", "a", "methods=sigma"],
    ["divide"],
]
for line in words:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main(line)
        except SystemExit as end:
            code = end.code or 0
    fine = line[-1] in ("--help", "--version") or "--print-config" in line
    assert code == (0 if fine else 2), (line, code, err.getvalue())
    assert fine or (err.getvalue().count("\\n") == 1 and err.getvalue().startswith("error: ")), (line, err.getvalue())
    heavy = {"tensorflow", "keras", "pandas", "scipy", "sklearn", "matplotlib", "h5py"} & set(sys.modules)
    assert not heavy or line == ["divide"], (line, heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr


def test_without_tensorflow_a_line_says_what_to_install(tmp_path):
    hidden = "import sys; sys.modules['tensorflow'] = None; from importlib import util; there = util.find_spec;"
    hidden += "util.find_spec = lambda name, *a: None if name == 'tensorflow' else there(name, *a);"
    done = subprocess.run(
        [sys.executable, "-c", hidden + "from rsml.cli.main import main; sys.exit(main(['train']))"],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: the package tensorflow is not installed; get it with: pip install tensorflow\n"


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_its_verb(door, tmp_path, monkeypatch):
    source = (ROOT / door).read_text()
    assert len([line for line in source.splitlines() if line and not line.startswith(('"""', "import", "from"))]) == 2
    seen = []
    monkeypatch.setattr("rsml.cli.main.main", lambda words: seen.append(words) or 7)
    monkeypatch.setattr(sys, "argv", [door, "--some", "words"])
    with pytest.raises(SystemExit) as end:
        exec(compile(source, door, "exec"), {"__name__": "__main__"})
    assert end.value.code == 7 and seen == [[DOORS[door], "--some", "words"]]


def test_options_and_operands_come_in_any_order():
    expected = parse("predict", "old.h5", "images/", "--labels", "names.txt", "--plain")
    for words in (
        "old.h5 --labels names.txt --plain images/",
        "--labels names.txt old.h5 --plain images/",
        "--plain old.h5 images/ --labels=names.txt",
        "--plain --labels names.txt -- old.h5 images/",
    ):
        assert parse("predict", *words.split()) == expected
    assert expected.inputs == ["old.h5", "images/"]


def test_a_list_takes_what_can_be_its_own():
    options = parse("retrieve", "measure", "--at", "5", "10", "RUN", "-k", "3")
    assert (options.at, options.model, options.k) == ([5, 10], "RUN", 3)
    options = parse("export", "--formats", "onnx", "tflite", "RUN", "--images", "a", "b")
    assert (options.formats, options.model, options.images) == (["onnx", "tflite"], "RUN", ["a", "b"])
    options = parse("train", "--set", "a=1", "b=2", "--set", "c=3", "--fresh")
    assert options.set == ["a=1", "b=2", "c=3"] and options.fresh
    options = parse(
        "compare", "--name", "n", "--variant", "plain", "m=plain", "--variant", "b", "seed=1", "--seeds", "4"
    )
    assert options.variant == [["plain", "m=plain"], ["b", "seed=1"]] and options.seeds == [4]


def test_a_value_may_begin_with_a_dash_and_a_dash_is_an_operand():
    options = parse("predict", "RUN", "-", "--nodata", "-9999", "--map")
    assert options.inputs == ["RUN", "-"] and options.nodata == -9999 and options.map_all


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("predict --lables x", "--lables: unknown option (did you mean '--labels'?); see rsml predict --help"),
        ("train here", "here: not expected here"),
        ("train --conf x", "--conf: unknown option (did you mean '--config'?)"),
        ("train --set epochs", "'epochs': expected KEY=VALUE"),
        ("train --set", "--set: expected at least one argument"),
        ("predict --batch-size 0 a.png", "--batch-size: '0': expected a whole number of 1 or more"),
        ("predict --split tests", "--split: invalid choice"),
        ("compare --name n --seeds -1", "--seeds: '-1': expected a whole number of 0 or more"),
        ("convert a.h5 b.keras --image-size 10xx", "'10xx': expected a size in pixels"),
        ("export", "the following arguments are required: RUN_OR_CHECKPOINT"),
        ("", "the following arguments are required: VERB"),
        ("retrieve", "required: index | search | measure"),
        ("explode", "invalid choice: 'explode'"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, said, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_option_has_one_spelling_and_one_kind_everywhere():
    kinds = {}
    for leaf in leaves():
        for action in leaf._actions:
            for name in action.option_strings:
                kinds.setdefault(name, set()).add((action.dest, type(action).__name__))
    several = {name: found for name, found in kinds.items() if len(found) > 1}
    assert not several
    assert not {"--arg", "--part", "--label-file", "--metrics", "--batch"} & set(kinds)
    assert {name for name in SHARED if name.startswith("--")} <= set(kinds)


def test_every_verb_has_what_the_door_asks_of_it():
    helps = {leaf.prog: leaf.format_help() for leaf in leaves()}
    assert {name.split()[1] for name in helps} == set(VERBS)
    assert all("usage:" in text for text in helps.values())


def commands(document):
    """Command lines in fenced blocks, indented headers and `code`, each with whether it is a whole one."""
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = re.findall(r"^```(?!python).*?\n(.*?)^```", text, flags=re.M | re.S)
    lines = [(line, True) for block in blocks for line in block.splitlines()]
    lines += [(line, True) for line in text.splitlines() if line.startswith("    ")]
    lines += [(line, False) for line in re.findall(r"`((?:rsml|python) [^`\n]+)`", text)]
    # That page quotes the commands of the original repositories, whose scripts have the names of our doors.
    doors = {} if document.stem == "coming-from" else DOORS
    doors = {f"python {door}": f"rsml {verb}" for door, verb in doors.items()}
    for line, whole in lines:
        for door, verb in doors.items():
            line = line.strip().replace(door, verb, 1)
        for part in line.split(" && "):
            if re.match("rsml [a-z]", part) and "..." not in part:
                words = shlex.split(re.split(r"\s#\s", part)[0])
                if words[1] in VERBS:
                    yield words[1:], whole


@pytest.mark.parametrize("document", [*DOCUMENTS, *CONFIGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_of_a_document_parses(document):
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"python -m rsml\.|--arg |--label-file|--part ", text)
    for words, whole in commands(document):
        try:
            parse(*words)
        except UserError as fault:
            unfinished = "arguments are required" in str(fault) or "expected one argument" in str(fault)
            assert not whole and unfinished, f"rsml {' '.join(words)}: {fault}"


def test_the_documents_are_really_read():
    found = [words for document in DOCUMENTS for words, _ in commands(document)]
    documented = {"train", "predict", "divide", "compare", "test", "retrieve", "export", "geo", "convert"}
    assert len(found) > 30 and documented <= {words[0] for words in found}


def test_division_is_read_from_its_config_and_what_is_given_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("rsml.data.divide.divide", lambda **given: asked.append(given) or "the table")
    assert main(["divide"]) == 0
    assert capsys.readouterr().out == "the table\n"
    assert (asked[0]["source"], asked[0]["dest"]) == ("data/UCMerced_LandUse/Images", "data/UCMerced")
    assert asked[0]["shares"] == {"train": 80, "valid": 20} and asked[0]["png"] is True
    assert main(["divide", "--train", "60", "--test", "40"]) == 0
    assert asked[1]["shares"] == {"train": 60, "test": 40}
    assert main(["divide", "a", "b", "--how", "table"]) == 0
    assert (asked[2]["source"], asked[2]["shares"], asked[2]["png"]) == ("a", None, False)
    assert main(["divide", "a"]) == 2
    assert "no DEST; give SOURCE and DEST" in capsys.readouterr().err


def test_settings_go_to_the_config_or_the_experiment(capsys):
    words = ["--config", "own", "--set", "folder=divided", "training.epochs=3", "epochs=9", "--name", "mine"]
    assert main(["train", "--print-config", *words]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["data"]["source"], read["training"]["epochs"], read["name"]) == ("divided", 3, "mine")
    assert main(["train", "--config", "own"]) == 2
    assert "needs --set folder=..." in capsys.readouterr().err
    assert main(["train", "--config", "own", "--set", "folder=x", "bakcbone=small"]) == 2
    assert "unknown key 'bakcbone' (did you mean 'backbone'?)" in capsys.readouterr().err
