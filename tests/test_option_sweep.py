"""Every option of an experiment, as its classes name it, with values that nobody should give: accepted or one line."""

import json
import math
import typing

import pytest
from pydantic import ValidationError

from rsml.config import Experiment, override
from rsml.methods import METHODS
from rsml.methods.objectives import Objective
from rsml.utils.errors import UserError
from rsml.utils.settings import LARGEST_SEED, Settings

STRANGE = [
    "", "\0", "a\0b", "x" * 5000, "nan", "NaN", "Infinity", "-Infinity", "1e400", "-1", "0", "0.5", "1.5", "-1e300",
    "3.5e38", "1e-320", "2000000000", "5000", "9" * 400, "9" * 5000, "true", "null", "[]", "{}", "[[]]", "[1,2]",
    "[2,1]", "[0.5,NaN]", "[1,2,3]", '["a"]', '{"a":1}', '{"0.5":1}', '{"2":-1}', '{"0.5":NaN}', "[" * 3000, "(" * 300,
    '"a\\u0000b"', '["\\u0000"]', "caf\udce9", "scenes", "1" + "0" * 20, "a" * 300, "../..",
]  # fmt: skip
CHOICES = typing.get_args(typing.get_args(typing.get_args(Objective)[0])[0])
OBJECTIVES = [choice.model_fields["kind"].default for choice in CHOICES]


def experiments():
    yield Experiment(name="x")
    for kind in METHODS:
        yield override(Experiment(name="x"), [f"methods={kind}"])[0]
    for kind in OBJECTIVES:
        yield override(Experiment(name="x"), [f"objective={kind}"])[0]


def places(value, path=""):
    """Every key of a dumped experiment, those that lead to others included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        if "." in str(key):
            continue  # a number; the value that holds it is set as a whole
        yield f"{path}{key}"
        yield from places(below, f"{path}{key}.")


def cases():
    seen = set()
    for experiment in experiments():
        own = [method.kind for method in experiment.methods] + [experiment.objective and experiment.objective.kind]
        for place in places(experiment.dump()):
            key = (place, str(own)) if place.startswith(("methods", "objective")) else place
            if key not in seen:
                seen.add(key)
                yield pytest.param(experiment, place, id="-".join(filter(None, [*own, place])))


def numbers(value):
    """All numbers in plain values."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize(("experiment", "place"), cases())
def test_a_strange_value_is_accepted_or_refused_in_one_line(experiment, place):
    accepted = 0
    for value in STRANGE:
        try:
            found = override(experiment, [f"{place}={value}"])[0]
        except UserError as fault:
            assert "\n" not in str(fault) and len(str(fault)) < 12_000, place
            continue
        accepted += 1
        assert all(math.isfinite(number) and abs(number) <= 3.4e38 for number in numbers(found.dump()))
        assert max(number for number in numbers(found.dump()) if isinstance(number, int)) <= LARGEST_SEED
        assert "\\u0000" not in found.text()
        assert Experiment.parse(found.dump()) == found, "what is kept of it is read again as it was"
    assert accepted < len(STRANGE) - 10


WRONG_TYPES = [object(), [None], {"a": object()}, 3 + 4j, float("nan"), 10**5000]


@pytest.mark.parametrize("value", WRONG_TYPES, ids=lambda value: type(value).__name__)
def test_a_value_of_another_type_is_refused(value):
    for name in ("name", "seed", "data", "model", "methods", "objective", "training", "evaluation", "augment"):
        with pytest.raises(UserError):
            Experiment.parse({"name": "x", name: value})


def test_lists_of_any_length_and_depth_are_refused():
    for value in (["x"] * 20_000, [[[["x"]]]], "x" * 5000):
        for path in ("data.bands", "model.weights", "training.callbacks", "methods"):
            with pytest.raises(UserError) as refused:
                override(Experiment(name="x"), [f"{path}={json.dumps(value)}"])
            assert len(str(refused.value)) < 2000


def classes(base):
    for one in base.__subclasses__():
        yield one
        yield from classes(one)


@pytest.mark.parametrize("one", sorted(set(classes(Settings)), key=str), ids=lambda one: one.__name__)
def test_no_whole_number_goes_without_a_bound(one):
    """2e9 steps, images or units are refused, whatever the option; a seed may be that large."""
    for name, field in one.model_fields.items():
        if "seed" in name or not ({int} & {field.annotation, *typing.get_args(field.annotation)}):
            continue
        for value in (2_000_000_000, 10**12):
            with pytest.raises(ValidationError) as refused:
                one.model_validate({name: value})
            assert name in {fault["loc"][0] for fault in refused.value.errors() if fault["loc"]}, (name, value)
