"""The examples in the docstrings of layers, losses, graphs and methods run and print what they say."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

ROOMS = ("rsml.layers", "rsml.losses", "rsml.graph", "rsml.methods")
FILES = [
    f"{room}.{file.name}" for room in ROOMS for file in pkgutil.iter_modules(importlib.import_module(room).__path__)
]
# Inner files that nobody imports, and code without a class or function of its own to use.
WITHOUT = {"registry", "numerics", "listwise"}


@pytest.mark.parametrize("name", [*FILES, "rsml.utils.settings"])
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    keras.utils.set_random_seed(0)
    scope = {"keras": keras, "np": np, **vars(module)}
    found = doctest.testmod(module, extraglobs=scope, optionflags=doctest.ELLIPSIS)
    assert not found.failed


@pytest.mark.parametrize("room", ["rsml.layers", "rsml.losses"])
def test_every_layer_and_loss_has_an_example(room):
    module = importlib.import_module(room)
    lacking = [
        name
        for name in module.__all__
        if isinstance(getattr(module, name), type) and "Example" not in (getattr(module, name).__doc__ or "")
    ]
    assert not lacking
