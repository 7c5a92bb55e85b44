"""Functional models as graphs: walk them, rebuild them flat, cut them, and name their stages."""

import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from rsml.layers.tokens import MapToTokens, TokensToMap
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line

STAGES = {"stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}
_MERGES = (keras.layers.Add, keras.layers.Concatenate, keras.layers.Average, keras.layers.Maximum)
_PADS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
_HEADS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.Flatten)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a graph.

    Args:
        layer: The layer (or bare operation) that is called.
        inputs: Positions of the calls whose outputs it takes.
        outputs: Its output tensors.
        bottleneck: Whether every path from the input to the output passes through it.
        stride: Input pixels for a step in its output; None where the output is no feature map.
    """

    layer: Any
    inputs: tuple[int, ...]
    outputs: tuple[keras.KerasTensor, ...]
    bottleneck: bool
    stride: int | None

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def layer_is_input(self) -> bool:
        """Whether this is an input of the model."""
        return isinstance(self.layer, keras.layers.InputLayer)

    @property
    def is_map(self) -> bool:
        """Whether the output is one `(batch, height, width, channels)` tensor."""
        return len(self.outputs) == 1 and len(self.outputs[0].shape) == 4


def calls(model: keras.Model) -> list[Call]:
    """Lists the layer calls of a functional model, inputs first (the input layers included)."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    nodes = _nodes(model)
    position: dict[int, int] = {}
    sources: list[tuple[int, ...]] = []
    for index, node in enumerate(nodes):
        sources.append(tuple(sorted({position[id(tensor)] for tensor in node.input_tensors})))
        position.update({id(tensor): index for tensor in node.outputs})
    # All outputs lead to one imagined end. An edge that jumps over a call is a path around it.
    edges = [(source, index) for index, inputs in enumerate(sources) for source in inputs]
    edges += [(position[id(tensor)], len(nodes)) for tensor in model.outputs]
    reach, furthest = [0] * (len(nodes) + 1), 0
    for source, target in edges:
        reach[source] = max(reach[source], target)
    result: list[Call] = []
    first_input = True
    for index, node in enumerate(nodes):
        bottleneck = furthest <= index and (not node.is_input or first_input)
        if node.is_input:
            first_input = False
        furthest = max(furthest, reach[index])
        result.append(Call(node.operation, sources[index], tuple(node.outputs), bottleneck, _stride(node, result)))
    return result


def _stride(node: Any, before: list[Call]) -> int | None:
    """Stride of a call's output: that of its input times the step of the layer."""
    if len(node.outputs) != 1 or len(node.outputs[0].shape) != 4:
        return None
    if node.is_input:
        return 1
    owners = {id(tensor): call for call in before for tensor in call.outputs}
    inputs = [(owners[id(tensor)].stride, tensor.shape) for tensor in node.input_tensors]
    maps = [(stride, shape) for stride, shape in inputs if stride is not None]
    if not maps:
        return None
    # A gate of 1 x 1 that multiplies a map has lost its place; the map has the smaller stride.
    stride, shape = min(maps, key=lambda item: item[0])
    step = getattr(node.operation, "strides", None)
    if step is not None:
        step = int(step[0] if isinstance(step, (tuple, list)) else step)
        return max(1, stride // step) if isinstance(node.operation, keras.layers.Conv2DTranspose) else stride * step
    height, out_height = shape[1], node.outputs[0].shape[1]
    if isinstance(node.operation, _PADS) or not height or not out_height:
        return stride
    return max(1, round(stride * 2 ** round(math.log2(height / out_height))))


def rebuild(
    model: keras.Model,
    *,
    inputs: keras.KerasTensor | None = None,
    start: keras.KerasTensor | None = None,
    output: keras.KerasTensor | None = None,
    after: Callable[[Any, Any], Any] | None = None,
    replace: Callable[[Any], Any] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds a flat functional model from the layers of another one; the layers are shared, not copied.

    Models nested inside are dissolved into their layers. The result is not compiled.

    Args:
        model: A functional or sequential model.
        inputs: A new input tensor to start from. Default: one like the model's own.
        start: The tensor that takes the place of the model's input, computed from `inputs`. Default: `inputs`.
        output: A tensor of the model where the new one ends. Default: its outputs.
        after: `after(layer, outputs) -> outputs`, called for each layer call.
        replace: `replace(layer) -> layer`, called for each layer; the same layer by default.
        name: Name of the new model. Default: the model's.
    """
    require_functional(model)
    source = keras.Model(model.inputs, model.outputs if output is None else [output])
    if inputs is None:
        given = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in source.inputs]
    else:
        given = [inputs]
    replaced: dict[int, Any] = {}

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model) and _is_graph(layer):
            return _dissolve(layer, call, arguments, options)
        if replace is not None:
            if id(layer) not in replaced:
                replaced[id(layer)] = replace(layer)
            layer = replaced[id(layer)]
        outputs = layer(*arguments, **options)
        return outputs if after is None else after(layer, outputs)

    outputs = _run(source, [start] if start is not None else given, call)
    try:
        return keras.Model(
            given if len(given) > 1 else given[0], outputs if len(outputs) > 1 else outputs[0], name=name or model.name
        )
    except ValueError as error:
        names = [call.name for call in calls(source)]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"Cannot build the model {model.name}: {in_a_line(error)} {twice or ''}".rstrip()) from None


def resized(model: keras.Model, size: int) -> keras.Model:
    """The same layers for square images of another size; the model itself where it takes that size."""
    height, width, bands = model.input_shape[1:]
    if (height, width) == (size, size):
        return model
    names = sorted(model.output) if isinstance(model.output, dict) else []
    try:
        other = rebuild(model, inputs=keras.Input((size, size, bands), dtype=model.inputs[0].dtype))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{model.name}: its layers take {height} x {width} images only, not {size} x {size}; leave "
            f"training.sizes empty, or choose another backbone ({in_a_line(error)})"
        ) from None
    return (
        keras.Model(other.inputs[0], dict(zip(names, other.outputs, strict=True)), name=model.name) if names else other
    )


def _run(model: keras.Model, given: Sequence[Any], call: Callable) -> list[Any]:
    values = {id(x): y for x, y in zip(model.inputs, given, strict=True)}
    for node in _nodes(model):
        if not node.is_input:
            arguments, options = node.arguments.fill_in(values)
            outputs = tree.flatten(call(node.operation, *arguments, **options))
            values.update({id(x): y for x, y in zip(node.outputs, outputs, strict=True)})
    return [values[id(x)] for x in model.outputs]


def _dissolve(model: keras.Model, call: Callable, arguments: tuple, options: dict) -> Any:
    # A nested model called with training=False (the usual way to freeze one) keeps its layers in that mode.
    training = options.get("training")

    def call_inner(layer: Any, *values: Any, **extra: Any) -> Any:
        if training is not None and "training" in inspect.signature(layer.call).parameters:
            extra["training"] = training
        return call(layer, *values, **extra)

    outputs = _run(keras.Model(model.inputs, model.outputs), tree.flatten(arguments), call_inner)
    return outputs if len(outputs) > 1 else outputs[0]


def _nodes(model: keras.Model) -> list[Any]:
    # Keras has no public way to walk a graph; these are the attributes that its own `clone_model` uses.
    return [node for _, level in sorted(model._nodes_by_depth.items(), reverse=True) for node in level]


def _is_graph(model: keras.Model) -> bool:
    return hasattr(model, "_nodes_by_depth") or (isinstance(model, keras.Sequential) and model.built)


def require_functional(model: Any) -> None:
    """Refuses anything but a functional (or built sequential) Keras model."""
    if not isinstance(model, keras.Model) or not _is_graph(model):
        raise UserError(
            f"{getattr(model, 'name', model)!s} is a {type(model).__name__}, not a functional Keras model with a known "
            "graph of layers; build it with keras.Model(inputs, outputs)."
        )


def feature_map(model: keras.Model) -> keras.KerasTensor:
    """Finds the last `(batch, height, width, channels)` tensor before global pooling or flattening."""
    listed = calls(model)
    laid_out = [index for index, call in enumerate(listed) if isinstance(call.layer, TokensToMap)]
    # Behind a network of tokens the map of patches begins anew.
    last = listed[laid_out[-1]] if laid_out else None
    for call in listed[laid_out[-1] :] if laid_out else listed:
        if not call.bottleneck:
            continue
        if last is not None and (isinstance(call.layer, _HEADS) or not call.is_map):
            break
        if call.is_map and not call.layer_is_input:
            last = call
    if last is None:
        raise UserError(
            f"{model.name} has no feature map of (height, width, channels) to build on; give another model."
        )
    return last.outputs[0]


def stages_of(model: keras.Model) -> dict[str, str]:
    """Names the layer that ends each stage of a functional model: `{"stage1": layer name, ...}`.

    Stage 1 to 4 have the strides 4, 8, 16 and 32. A stage ends at the last layer of its stride (padding aside) through
    which everything later passes: the last one before the next spatial reduction, on the trunk and not on a branch.
    A network whose cells skip over each other all the way (NASNet) has no such layer; there it is the last merge of
    that stride. Strides that a network never has are left out, so VGG16's stage 4 is its last pooling. A layer that was
    inserted at the end of a stage is that end from then on.

    In a network of tokens (ViT) each quarter of the blocks is a stage, and ends at the map of its patches.
    """
    result = {}
    every = calls(model)
    if any(isinstance(call.layer, TokensToMap) for call in every):
        return _stages_of_tokens(model, every)
    listed = [call for call in every if call.is_map and not call.layer_is_input]
    for stage, stride in STAGES.items():
        members = [call for call in listed if call.stride == stride and not isinstance(call.layer, _PADS)]
        trunk = [index for index, call in enumerate(members) if call.bottleneck]
        merges = [index for index, call in enumerate(members) if isinstance(call.layer, _MERGES)]
        if trunk or merges:
            result[stage] = members[max(trunk[-1:] + merges[-1:])].name
    return result


def _stages_of_tokens(model: keras.Model, listed: list[Call]) -> dict[str, str]:
    ends = {}
    for call in listed:
        if isinstance(call.layer, MapToTokens) and call.layer.stage is not None:
            ends[f"stage{call.layer.stage}"] = next(listed[i].name for i in call.inputs if listed[i].is_map)
    last = feature_map(model)
    return {**ends, "stage4": next(call.name for call in listed if any(x is last for x in call.outputs))}


def output_of(model: keras.Model, layer_name: str) -> keras.KerasTensor:
    """Returns the output tensor of a layer (or stage) in this very model.

    `layer.output` is not that: a layer shared with the model it was built from answers with the older tensor.
    """
    name = resolve(model, layer_name)
    return next(call.outputs[0] for call in reversed(calls(model)) if call.name == name)


def resolve(model: keras.Model, layer_name: str) -> str:
    """Turns a stage into the layer that ends it, and refuses a name that the model does not have."""
    require_functional(model)
    names = [call.name for call in calls(model)]
    if layer_name in names:
        return layer_name
    stages = stages_of(model)
    if layer_name in stages:
        return stages[layer_name]
    near = difflib.get_close_matches(layer_name, names, n=5, cutoff=0.3)
    known = ", ".join(f"{stage} ({name})" for stage, name in stages.items()) or "no stages"
    raise UserError(
        f"{model.name} has no layer or stage {layer_name!r}; it has {known}"
        + (f"; layers with a similar name: {', '.join(near)}." if near else f" and {len(names)} layers.")
    )
