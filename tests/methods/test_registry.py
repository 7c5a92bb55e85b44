"""Methods of this package are found in its files; methods of others by entry point or import path."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import rsml
from rsml.config import Data, Experiment, Training, override
from rsml.methods import METHODS, Method, find_method
from rsml.training import train
from rsml.utils.errors import UserError

GUIDE = Path(__file__).parents[2] / "docs" / "methods.md"


def guide_example() -> str:
    """The Python of the section "Add your own method"."""
    section = GUIDE.read_text(encoding="utf-8").split("## Add your own method")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The guide's method as a file of another package, on the path."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "channel_gain.py").write_text(guide_example())
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_package.channel_gain:ChannelGain"
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]


def test_every_file_is_a_method_under_the_name_of_its_class():
    assert {"plain", "se-net", "ml-gcn", "signa", "grn", "r4c", "ice", "geokr"} <= set(METHODS)
    for kind, method in METHODS.items():
        assert find_method(kind) is method
        assert getattr(rsml.methods, method.__name__) is method


def test_the_guides_method_is_short_trains_and_is_read_again(outside, multilabel_csv, tmp_path):
    assert len(guide_example().splitlines()) < 40
    experiment = Experiment(
        name="x",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        methods=outside,
        training=Training(epochs=1, batch_size=12),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )
    experiment = override(experiment, ["methods.ChannelGain.strength=0.25"])[0]
    assert experiment.methods[0].strength == 0.25
    run = train(experiment, root=tmp_path)
    assert run.experiment == experiment
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    model = keras.models.load_model(run.files.best)
    assert model.predict(images, verbose=0).shape == (2, 3)
    # In another process nothing is known of the method but what its package brings when it is imported.
    code = (
        "import keras, rsml.layers, my_package.channel_gain\n"
        f"model = keras.models.load_model({str(run.files.best)!r})\n"
        "print([layer.strength for layer in model.layers if type(layer).__name__ == 'Gain'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": paths(tmp_path)}
    )
    assert found.stdout.strip() == "[0.25]"


def paths(folder):
    return f"{folder}:{Path(rsml.__file__).parents[1]}"


def test_an_installed_package_brings_methods_by_entry_point(outside, monkeypatch):
    point = importlib.metadata.EntryPoint("channel-gain", outside, "rsml.methods")
    real = importlib.metadata.entry_points

    def entry_points(**selected):
        if selected.get("group") != "rsml.methods" or selected.get("name", point.name) != point.name:
            return real(**selected)
        return importlib.metadata.EntryPoints([point])

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    experiment = Experiment(name="x", methods="channel-gain+signa")
    assert [method["kind"] for method in experiment.dump()["methods"]] == ["channel-gain", "signa"]
    assert Experiment.parse(experiment.dump()) == experiment


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sinna", "did you mean 'signa'"),
        ("no_such_package.file:Thing", "No module named 'no_such_package'"),
        ("rsml.methods.signa:Nothing", "no attribute 'Nothing'"),
        ("rsml.utils.errors:UserError", "expected a subclass of rsml.methods.Method"),
        (":", "cannot be imported"),
    ],
)
def test_what_is_no_method_is_one_line(name, said):
    with pytest.raises(UserError) as fault:
        Experiment.parse({"name": "x", "methods": [name]})
    assert said in str(fault.value) and "\n" not in str(fault.value)


def test_methods_and_their_options_load_no_keras():
    code = (
        "import sys, rsml.methods, rsml.methods.objectives\n"
        "heavy = [name for name in ('keras', 'tensorflow', 'sklearn', 'spektral') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "[method() for method in rsml.methods.METHODS.values()]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_method_is_a_class_with_a_kind():
    assert all(issubclass(method, Method) and method().kind == kind for kind, method in METHODS.items())
