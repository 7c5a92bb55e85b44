"""Methods by name: one file each in this package, by entry point, or by import path."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import rsml.methods as package
from rsml.methods.base import Method
from rsml.utils.settings import nearest

GROUP = "rsml.methods"
"""The entry point group of methods that installed packages bring."""


def kind_of(method: type[Method]) -> str:
    """The name that a method's class gives itself."""
    return str(method.model_fields["kind"].default)


def built_in() -> dict[str, type[Method]]:
    """Every method that a file of this package defines, by kind."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names if name != "registry"]
    return {kind_of(method): method for module in modules for method in _defined_in(module)}


def find_method(name: str) -> type[Method]:
    """Returns the method of that name.

    Args:
        name: The kind of a built-in method, the name of an entry point in the group "rsml.methods", or the import path
            of a `Method`, "my_package.my_file:MyMethod".

    Raises:
        ValueError: In one line, if there is none.
    """
    if name in package.METHODS:
        return package.METHODS[name]
    if ":" in name:
        return _checked(name, _imported(name))
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        known = {*package.METHODS, *installed}
        raise ValueError(
            f"unknown method '{name}'{nearest(name, known)}; one of your own is named by its import path, "
            "my_package.my_file:MyMethod"
        )
    return _checked(name, installed[name].load())


def name_of(method: type[Method]) -> str:
    """The name under which `find_method` finds a method again, in another process too."""
    kind = kind_of(method)
    if package.METHODS.get(kind) is method:
        return kind
    from importlib.metadata import entry_points

    if entry_points(group=GROUP, name=kind):
        return kind
    return f"{method.__module__}:{method.__qualname__}"


def _defined_in(module: ModuleType) -> list[type[Method]]:
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Method)]
    return [value for value in classes if value.__module__ == module.__name__ and value is not Method]


def _imported(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"method '{path}' cannot be imported ({error}); expected package.module:Class of an installed package, or "
            "of a folder on PYTHONPATH"
        ) from None


def _checked(name: str, found: object) -> type[Method]:
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"method '{name}': expected a subclass of rsml.methods.Method, found {found!r}")
    return found
