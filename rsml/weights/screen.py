"""Find what a saved model would run when it is loaded: its config is read as data before Keras sees it."""

import sys
from collections.abc import Iterator
from typing import Any

import keras

# Layers whose config is a program or names one: Python bytecode, a pickled, scripted or exported module.
_PROGRAMS = {"Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}

_VALUES = {
    "__tensor__",
    "__numpy__",
    "__keras_tensor__",
    "__bytes__",
    "__ellipsis__",
    "__slice__",
    "__tuple__",
    "__typespec__",
}
_KINDS = (
    keras.Operation,  # layers and models among them
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
    keras.Quantizer,
)
_HOUSES = {"keras", "keras_hub", "keras_cv", "keras_nlp", "builtins"}
_FUNCTIONS = ("keras.activations", "keras.ops", "keras.initializers")


def screen(config: Any) -> tuple[list[str], list[str]]:
    """Sorts what a model's config is made of: what would run code of the file's choice, and what nobody here knows.

    Harmless are Keras's layers, models and operations, their initializers, regularizers, constraints, dtype policies
    and activations, and what was registered in this process (rsml's own layers). Keras would also build whatever else a
    name in its own modules stands for, such as a function that fetches a file.

    Returns:
        Names of programs, and names of unknown classes; both sorted.
    """
    programs, unknown = set(), set()
    for entry in _objects(config):
        name, module = str(entry.get("class_name")), str(entry.get("module") or "builtins")
        registered = str(entry.get("registered_name") or name)
        if name == "__lambda__" or name.split(">")[-1] in _PROGRAMS or registered.split(">")[-1] in _PROGRAMS:
            programs.add(name.strip("_"))
        elif name in _VALUES or keras.saving.get_registered_object(registered) is not None:
            continue
        elif module.split(".")[0] not in _HOUSES:
            unknown.add(name)
        elif name == "function":
            if module != "builtins" and module not in _FUNCTIONS:
                programs.add(f"{module}.{entry.get('config')}")
        elif module != "builtins" and not _is_part(module, name):
            programs.add(f"{module}.{name}")
    return sorted(programs), sorted(unknown)


def _is_part(module: str, name: str) -> bool:
    """Whether a name in a module is a part of models; a name that stands for nothing is left to Keras to refuse."""
    found: Any = sys.modules.get(module)
    if found is None and module.startswith("keras."):
        found = keras
        for step in module.split(".")[1:]:
            found = getattr(found, step, None)
    item = getattr(found, name, None)
    return item is None or (isinstance(item, type) and issubclass(item, _KINDS))


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for key, value in config.items():
            if key != "compile_config":  # how it was trained is not loaded
                yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)
