"""The examples, one a paper, run from a folder of their own on a few drawn scenes and print their last line."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAST = {
    "signa": r"example F1 \d\.\d{3}, mAP \d\.\d{3}",
    "grn": r"nearest share: \d\.\d{3}",
    "r4c": r"example F1 \d\.\d{3}, mAP \d\.\d{3}",
    "ice": r"hardest: .*, a \S+ taken for a \S+",
    "geokr": r"pretrained: example F1 \d\.\d{3}",
}


def test_each_paper_has_one_of_under_80_lines():
    files = {path.stem: path for path in (ROOT / "examples").glob("*.py")}
    assert set(files) == set(LAST)
    assert all(len(path.read_text().splitlines()) < 80 for path in files.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAST))
def test_it_runs(name, tmp_path_factory, tmp_path, monkeypatch, capsys):
    drawn = tmp_path_factory.getbasetemp() / "example-scenes"
    options = ["--count", "84", "--epochs", "1", "--folder", str(drawn), "--root", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [f"{name}.py", *options])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert re.search(LAST[name], capsys.readouterr().out.strip().splitlines()[-1])
