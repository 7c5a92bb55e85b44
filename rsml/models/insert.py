"""Put a layer after any layer of a functional model."""

from typing import Any

import keras

from rsml.layers.tokens import MapToTokens, TokensToMap
from rsml.models.surgery import calls, output_of, rebuild, require_functional, resolve, stages_of
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line

__all__ = ["insert_after", "output_of", "stages_of"]


def insert_after(model: keras.Model, layer_name: str, layer: keras.layers.Layer) -> keras.Model:
    """Returns the model with a layer put after one of its layers.

    Everything that took the output of `layer_name` takes the output of `layer` instead. The result is a flat functional
    model that shares its layers and weights with the one given (nothing is copied), is not compiled, and saves and
    loads like any other. A stage name means the layer that ends the stage (see `stages_of`), so a second insertion at
    the same stage comes after the first. Use `output_of(model, name)` for a layer's tensor in the new model.

    In a network of tokens (ViT), a layer put after tokens sees their patches as a map; the class token and registers go
    around it. At the end of a stage there is such a map already.

    Args:
        model: A functional or sequential model; models nested in it are dissolved into their layers.
        layer_name: The name of a layer, or `"stage1"` to `"stage4"`.
        layer: The layer to insert; its name must be new to the model.
    """
    require_functional(model)
    if any(isinstance(inner, keras.Model) for inner in model.layers):
        model = rebuild(model)
    name = resolve(model, layer_name)
    tensor = output_of(model, name)
    if layer.name in {known.name for known in model.layers}:
        raise UserError(
            f"{model.name} already has a layer named {layer.name!r}; give the inserted layer another name=."
        )
    if len(tensor.shape) < 2 or tensor.shape[-1] is None:
        raise UserError(f"The output of {name!r} has the shape {tensor.shape}, without a channels axis to insert at.")
    if isinstance(tensor._keras_history.operation, keras.layers.InputLayer):
        return rebuild(model, inputs=(inputs := _input_like(tensor)), start=_attach(layer, name, inputs))
    grid = _grid_of(model) if len(tensor.shape) == 3 else None
    patches = {}

    def after(called: Any, outputs: Any) -> Any:
        if called.name == grid:
            patches["map"] = outputs
        if called.name != name:
            return outputs
        if isinstance(outputs, (list, tuple, dict)):
            raise UserError(f"The layer {name!r} has several outputs; insert after a layer that has one.")
        if grid is None:
            return _attach(layer, name, outputs)
        laid_out = TokensToMap(name=f"{layer.name}_map")([outputs, patches["map"]])
        return MapToTokens(name=f"{layer.name}_tokens")([outputs, _attach(layer, name, laid_out)])

    try:
        return rebuild(model, after=after)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{layer.name!r} cannot be put after {name!r}: the layers behind it do not take its output "
            f"({in_a_line(error)})."
        ) from None


def _grid_of(model: keras.Model) -> str | None:
    """The layer whose map of patches became the tokens of a model; None where there are none."""
    listed = calls(model)
    for call in listed:
        if isinstance(call.layer, TokensToMap):
            return next(listed[i].name for i in call.inputs if listed[i].is_map)
    return None


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _attach(layer: keras.layers.Layer, name: str, tensor: keras.KerasTensor) -> keras.KerasTensor:
    try:
        return layer(tensor)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{layer.name!r} ({type(layer).__name__}) cannot be put after {name!r}, whose output has the shape "
            f"{tensor.shape}: {in_a_line(error)}"
        ) from None
