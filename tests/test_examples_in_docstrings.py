"""Every example in the docstrings of the public names runs, on a tiny data set in a folder of its own."""

import doctest
import importlib
import shutil

import numpy as np
import pytest

import rsml

MODULES = ("rsml.api", "rsml.run", "rsml.tasks", "rsml.evaluation.scalars")


@pytest.fixture(scope="module")
def place(scene_folder, tmp_path_factory):
    """A folder with class folders of photographs, and a run that learned from them."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(scene_folder, folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rsml.train(
            "scenes",
            name="tiny",
            source="photos",
            image_size=32,
            methods=(),
            epochs=1,
            figures=False,
            page=False,
            resamples=0,
        )
        yield folder


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name, place, monkeypatch):
    monkeypatch.chdir(place)
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs={"rsml": rsml, "np": np})
    tried = [
        doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS).run(one) for one in found
    ]
    assert sum(result.attempted for result in tried) > 0
    assert sum(result.failed for result in tried) == 0
