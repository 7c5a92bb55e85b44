"""From a name or a file to a network that takes raw pixels and ends in a feature map."""

import difflib
import inspect
import logging
import math
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras

from rsml.layers.preprocess import MODES, Preprocess, extend
from rsml.models.insert import insert_after
from rsml.models.resnet import hub_name, resnet
from rsml.models.small import small
from rsml.models.surgery import calls, feature_map, rebuild, require_functional, stages_of
from rsml.utils.errors import UserError
from rsml.weights.arrays import find_weights
from rsml.weights.keras2 import legacy_pixels
from rsml.weights.load import LoadReport, adapt_layer, load_weights
from rsml.weights.models import load_model

logger = logging.getLogger(__name__)

# How each family of keras.applications was trained. Those that can scale inside are built without it, so that the one
# Preprocess layer in front does it for any number of bands; only EfficientNet (B0 to B7) always scales inside.
_FAMILIES = {
    "convnext": "torch",
    "densenet": "torch",
    "efficientnet": "none",
    "efficientnet_v2": "torch",
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "tf",
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}
_SCALED_OTHERWISE = dict.fromkeys(("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"), "signed")
_OWN = {"small": (small, "tf"), "resnet18": (partial(resnet, "resnet18"), "torch")}
_SMALLEST = 32
_SCALERS = (Preprocess, keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network from raw pixels to a feature map.

    Attributes:
        name: What it is called.
        model: One flat functional model: images `(batch, height, width, bands)` of 0 to 255, uint8 or float32, to the
            last feature map `(batch, h, w, channels)`.
        pretrained: Whether it starts from weights that were learned.
        report: What was loaded, when weights were.
    """

    name: str
    model: keras.Model
    pretrained: bool = False
    report: LoadReport | None = None

    @property
    def stages(self) -> dict[str, str]:
        """The layer that ends each stage; see `stages_of`."""
        return stages_of(self.model)

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        return self.model.output_shape[-1]

    def insert_after(self, layer_name: str, layer: keras.layers.Layer) -> "Backbone":
        """The backbone with a layer put after one of its layers or stages; see `rsml.models.insert_after`."""
        return replace(self, model=insert_after(self.model, layer_name, layer))

    def append(self, layer: keras.layers.Layer) -> "Backbone":
        """The backbone with a layer put behind its feature map."""
        model = keras.Model(self.model.input, layer(self.model.output), name=self.model.name)
        return replace(self, model=model)

    def text(self) -> str:
        """What it is, in one line."""
        sizes = " x ".join(str(size) for size in self.model.input_shape[1:])
        output = " x ".join(str(size) for size in self.model.output_shape[1:])
        modes = [layer.mode for layer in self.model.layers if isinstance(layer, Preprocess)]
        return (
            f"{self.name}: {sizes} pixels to {output} features, {self.model.count_params() / 1e6:.2f} M parameters, "
            f"preprocessing {modes[0] if modes else 'its own'}, {'pretrained' if self.pretrained else 'random weights'}"
        )


def load_backbone(
    name: str | Path | keras.Model,
    *,
    image_size: int | tuple[int, int],
    weights: str | Path | None = None,
    bands: int = 3,
    preprocess: str | Preprocess | None = None,
    trust: bool = False,
) -> Backbone:
    """Builds or loads a backbone.

    Args:
        name: A `keras.applications` name in any spelling ("ResNet50", "efficientnet-b0"), "resnet18", "small",
            "keras_hub:<preset>" where keras-hub is installed, a `.keras` or whole-model `.h5` file, a run folder, or a
            functional Keras model. Models are cut at their last feature map before pooling.
        image_size: Height and width of the images, or one number for both.
        weights: "imagenet", a weights file or run folder (see `load_weights`), or None: a random start for a name, and
            the weights that it comes with for a file or model.
        bands: Bands of the images. A network made for another number gets a first convolution adapted from its
            weights, by the rule of `adapt_bands`; the means and scales in front are extended by their average.
        preprocess: A mode of `Preprocess`, or such a layer. None takes what belongs to the name. A file or model must
            be told, unless a Preprocess, Rescaling or Normalization layer before its first weights shows that it takes
            raw pixels.
        trust: Load a model file that carries code (Lambda layers).
    """
    size = _image_size(image_size)
    if not isinstance(bands, int) or bands < 1:
        raise UserError(f"bands must be a whole number of at least 1; got {bands!r}.")
    if isinstance(preprocess, str) and preprocess not in MODES:
        raise UserError(f"There is no preprocessing {preprocess!r}; choose one of {', '.join(MODES)}.")
    report = None
    if isinstance(name, keras.Model) or _is_path(str(name)):
        title, core = _given(name, trust)
        core, pretrained, mode = _cut(title, core), True, None
        file = None if isinstance(name, keras.Model) else find_weights(name)
        preprocess = pixels_of(title, core, preprocess, file)
        core = with_bands(core, bands)
    elif str(name).startswith("keras_hub:"):
        title, pretrained = str(name).removeprefix("keras_hub:"), weights == "imagenet"
        core, mode = _hub(title, size, pretrained)
        if mode is None and preprocess is None:
            raise UserError(f"How keras_hub:{title} wants its pixels is not in the preset: give preprocess=.")
        core = with_bands(_cut(title, core), bands, keep=pretrained)
    else:
        title, build, mode = _known(str(name))
        pretrained = weights == "imagenet"
        if weights is not None and not pretrained and preprocess is None:
            preprocess = _learned_with(find_weights(weights))
        core = _build(title, build, size, bands, pretrained)
    model = compose(title, core, size, bands, preprocess_layer(preprocess or mode, bands))
    if weights == "imagenet":
        matched = {layer.name: layer.name for layer in model.layers if layer.weights}
        adapted = {} if bands == 3 else {_front(core)[-1].name: f"from 3 to {bands} bands"}
        counts = (model.count_params(), model.count_params())
        report = LoadReport("ImageNet", matched=matched, adapted=adapted, parameters=counts)
    elif weights is not None:
        report = load_weights(model, weights)
        if report.parameters[0] < report.parameters[1] / 2:
            # Names that Keras made up let a few layers of any two networks look alike.
            raise UserError(f"{weights} is of another architecture than {title}: {report.text()}")
        pretrained = True
    return Backbone(title, model, pretrained, report)


def backbone_names() -> list[str]:
    """All names that `load_backbone` builds by itself."""
    return sorted([*_OWN, *_applications()])


def smallest_image_size(backbone: Backbone, side: int) -> int | None:
    """The smallest square images of which a backbone, whose feature map is too small, makes one of `side` x `side`.

    Found by building it, for how a network pads odd and even sizes is its own; None for a model from a file, which may
    have been made for one size only.
    """
    if backbone.name not in backbone_names():
        return None

    def enough(size: int) -> bool:
        return min(load_backbone(backbone.name, image_size=size).model.output_shape[1:3]) >= side

    too_small = min(backbone.model.input_shape[1:3])
    step = math.ceil(too_small / min(backbone.model.output_shape[1:3]))
    works = too_small + step
    while not enough(works):
        too_small, works = works, works + step
    while works - too_small > 1:
        middle = (works + too_small) // 2
        too_small, works = (too_small, middle) if enough(middle) else (middle, works)
    return works


# ---- names ----------------------------------------------------------------------------------------------------------


def _applications() -> dict[str, Callable]:
    return {
        name: item
        for name, item in vars(keras.applications).items()
        if inspect.isfunction(item) and "include_top" in inspect.signature(item).parameters
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _known(name: str) -> tuple[str, Callable, str]:
    """A known backbone's name in its own spelling, its builder, and its preprocessing."""
    spelled = {_plain(known): known for known in backbone_names()}
    if _plain(name) not in spelled:
        near = difflib.get_close_matches(_plain(name), spelled, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(spelled[key] for key in near)}?"
            if near
            else f"known are {', '.join(spelled.values())}."
        )
        raise UserError(f"There is no backbone {name!r} (nor a file of that name); {hint}")
    name = spelled[_plain(name)]
    if name in _OWN:
        return name, *_OWN[name]
    build = _applications()[name]
    family = build.__module__.rsplit(".", 1)[-1]
    if family not in _FAMILIES:
        raise UserError(f"The preprocessing of {name} is not known here; give preprocess= and the model as a file.")
    return name, build, _SCALED_OTHERWISE.get(name, _FAMILIES[family])


def _is_path(name: str) -> bool:
    return name.endswith((".keras", ".h5", ".hdf5")) or ("/" in name and ":" not in name) or Path(name).is_dir()


def _image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sizes) != 2 or not all(isinstance(side, int) and side > 0 for side in sizes):
        raise UserError(f"image_size must be one or two whole numbers of pixels; got {size!r}.")
    return sizes


# ---- building -------------------------------------------------------------------------------------------------------


def _build(name: str, build: Callable, size: tuple[int, int], bands: int, imagenet: bool) -> keras.Model:
    if name in _OWN:
        if min(size) < _SMALLEST:
            raise _too_small(name, size, _SMALLEST)
        if imagenet:
            core = _own_imagenet(name, size)
            return with_bands(core, bands)
        return build(size, bands)
    options = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(build).parameters else {}
    try:
        with warnings.catch_warnings(), _impatient_network():
            warnings.simplefilter("ignore")
            core = build(weights="imagenet" if imagenet else None, include_top=False, input_shape=(*size, 3), **options)
    except Exception as error:
        smallest = re.search(r"at least (\d+)x\d+", str(error))
        if smallest:
            raise _too_small(name, size, int(smallest[1])) from None
        if imagenet and not isinstance(error, (ValueError, TypeError)):
            raise UserError(
                f"The ImageNet weights of {name} could not be fetched ({_reason(error)}); connect to the "
                "network once, or give weights= a file (.weights.h5, .h5, .keras) of this architecture."
            ) from None
        if isinstance(error, ValueError):
            raise UserError(f"{name} cannot be built for images of {size[0]} x {size[1]}: {_reason(error)}") from None
        raise
    if not imagenet and build.__module__.endswith(".efficientnet"):
        # Its ImageNet graph has one more layer than its random one. It is always built in, so that all published and
        # fine-tuned weights mean the same.
        norm = next(layer for layer in core.layers if isinstance(layer, keras.layers.Normalization))
        scale = [1 / math.sqrt(deviation) for deviation in (0.229, 0.224, 0.225)]
        core = insert_after(core, norm.name, keras.layers.Rescaling(scale, name="imagenet_rescaling"))
    return with_bands(core, bands, keep=imagenet)


def _own_imagenet(name: str, size: tuple[int, int]) -> keras.Model:
    if name != "resnet18":
        raise UserError(
            f"{name} has no ImageNet weights; start at random (--set model.weights=None), or name another backbone."
        )
    core = resnet("resnet18", size)
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        raise UserError(
            "The ImageNet weights of resnet18 are not in Keras: give weights= torchvision's file "
            "(https://download.pytorch.org/models/resnet18-f37072fd.pth), or install keras-hub."
        ) from None
    source = _cut("resnet_18_imagenet", _hub("resnet_18_imagenet", size, True)[0])
    ours = {layer.name: layer for layer in core.layers}
    for layer in source.layers:
        if layer.weights:
            ours[hub_name(layer.name)].set_weights(layer.get_weights())
    return core


def _hub(preset: str, size: tuple[int, int], pretrained: bool) -> tuple[keras.Model, Preprocess | str | None]:
    try:
        import keras_hub
    except ImportError:
        raise UserError(
            f"The backbone keras_hub:{preset} needs keras-hub: pip install keras-hub, or name another backbone."
        ) from None
    try:
        with _impatient_network():
            core = keras_hub.models.Backbone.from_preset(preset, load_weights=pretrained, image_shape=(*size, 3))
    except Exception as error:
        raise UserError(
            f"keras-hub cannot give {preset!r}: {_reason(error)}; check the preset's name and the "
            "network, or give the folder of a downloaded preset."
        ) from None
    try:
        return core, _converter_mode(keras_hub.layers.ImageConverter.from_preset(preset))
    except Exception:  # a preset without one says nothing of its pixels, and keras-hub raises many types
        return core, None


def _converter_mode(converter: keras.layers.Layer) -> Preprocess | str:
    """keras-hub scales as `pixels * scale + offset`."""
    scale, offset = getattr(converter, "scale", None), getattr(converter, "offset", None)
    if scale is None and offset is None:
        return "none"
    scales = [float(scale or 1)] * 3 if not isinstance(scale, (list, tuple)) else [float(value) for value in scale]
    offsets = [float(offset or 0)] * 3 if not isinstance(offset, (list, tuple)) else [float(value) for value in offset]
    mean = [-offset / scale for offset, scale in zip(offsets, scales, strict=True)]
    return Preprocess("custom", mean=mean, scale=[1 / scale for scale in scales])


@contextmanager
def _impatient_network(seconds: float = 30.0) -> Iterator[None]:
    # Keras's downloads have no time limit of their own.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _too_small(name: str, size: tuple[int, int], smallest: int) -> UserError:
    return UserError(
        f"Images of {size[0]} x {size[1]} pixels are too small for {name}, which needs {smallest} x {smallest}; "
        "raise image_size or name another backbone."
    )


# ---- models that exist ----------------------------------------------------------------------------------------------


def _given(source: str | Path | keras.Model, trust: bool) -> tuple[str, keras.Model]:
    if isinstance(source, keras.Model):
        require_functional(source)
        return source.name, source
    model = load_model(source, trust)
    require_functional(model)
    return Path(source).name, model


def _cut(title: str, model: keras.Model) -> keras.Model:
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tensor.shape) for tensor in model.inputs)
        raise UserError(f"{title} takes {shapes}; a backbone takes one input of (batch, height, width, bands).")
    flat = rebuild(model)
    return rebuild(flat, output=feature_map(flat))


def pixels_of(
    title: str, model: keras.Model, preprocess: str | Preprocess | None, file: Path | None = None
) -> str | Preprocess | None:
    """What to put in front of a model that exists; None where it scales pixels itself.

    Args:
        title: What the model is called.
        model: A flat functional model.
        preprocess: What the user says, if anything.
        file: Where the model comes from, which may tell.
    """
    own = [call.layer for call in _front(model) if isinstance(call.layer, _SCALERS)]
    carried = next((layer for layer in own if isinstance(layer, Preprocess)), None)
    if carried is not None and preprocess is not None:
        given = preprocess if isinstance(preprocess, str) else preprocess.mode
        if given != carried.mode:
            raise UserError(
                f"{title} carries its own preprocessing ({carried.mode}), which {given!r} would be applied on top of; "
                "leave preprocess out."
            )
    if carried is not None:
        return None
    if not own and preprocess is None and file is not None:
        preprocess = _learned_with(file)
    if not own and preprocess is None:
        raise UserError(
            f"How {title} wants its pixels is not in the file: give preprocess= one of {', '.join(MODES)} "
            "('none' if it takes 0 to 255; predict.py: --preprocess)."
        )
    return preprocess


def _learned_with(file: Path) -> str | None:
    mode = legacy_pixels(file)
    if mode is not None:
        logger.info("%s: an ICE network of Keras 2; preprocessing '%s', as it was trained", file.name, mode)
    return mode


def _front(model: keras.Model) -> list:
    """The calls before the first convolution, and it."""
    listed = calls(model)
    for index, call in enumerate(listed):
        if any(len(weight.shape) == 4 for weight in getattr(call.layer, "weights", [])):
            return listed[: index + 1]
    return listed


def with_bands(model: keras.Model, bands: int, keep: bool = True) -> keras.Model:
    """Returns a flat model for another number of bands: same layers, but for those up to the first convolution.

    Args:
        model: A functional model of one image input.
        bands: The number of bands.
        keep: Adapt the first convolution from the weights it has; else it starts at random.
    """
    before = model.input_shape[-1]
    if before == bands:
        return model
    model = rebuild(model)
    front = {id(call.layer): call.layer for call in _front(model)}
    first = _front(model)[-1].layer
    if not isinstance(first, keras.layers.Conv2D) or first.groups != 1:
        raise UserError(f"{model.name} was made for {before} bands and begins with no plain convolution to adapt.")
    made: dict[int, keras.layers.Layer] = {}

    def fresh(layer):
        if id(layer) not in front or not _depends_on_bands(layer):
            return layer
        config = layer.get_config()
        for key in ("mean", "scale", "offset", "variance"):
            if isinstance(config.get(key), (list, tuple)):
                config[key] = list(extend(config[key], bands))
        if "bands" in config:
            config["bands"] = bands
        made[id(layer)] = type(layer).from_config(config)
        return made[id(layer)]

    image = keras.Input((*model.input_shape[1:3], bands), name="image")
    result = rebuild(model, inputs=image, replace=fresh)
    if keep:
        for key, layer in made.items():
            if layer.weights:
                adapt_layer(layer, front[key])
    return result


def _depends_on_bands(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.layers.Layer) and layer.weights:
        return True
    return any(isinstance(getattr(layer, key, None), (list, tuple)) for key in ("scale", "offset", "mean"))


def preprocess_layer(mode: str | Preprocess | None, bands: int) -> Preprocess | None:
    """The layer of a mode for a number of bands; None stays None."""
    if mode is None:
        return None
    if isinstance(mode, Preprocess):
        if mode.bands == bands:
            return mode
        mean, scale = extend(mode.mean, bands), extend(mode.scale, bands)
        return Preprocess(mode.mode, bands, mean, scale, name="preprocess")
    return Preprocess(mode, bands, name="preprocess")


def compose(title: str, core: keras.Model, size: tuple[int, int], bands: int, layer: Preprocess | None) -> keras.Model:
    """Puts preprocessing in front of a model and fixes the size of its images; one flat model of the same layers."""
    image = keras.Input((*size, bands), name="image")
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", title)
    try:
        return rebuild(core, inputs=image, start=layer(image) if layer is not None else None, name=name)
    except ValueError as error:
        raise UserError(
            f"{title} was made for images of {core.input_shape[1]} x {core.input_shape[2]} and cannot take "
            f"{size[0]} x {size[1]}: {_reason(error)}"
        ) from None
