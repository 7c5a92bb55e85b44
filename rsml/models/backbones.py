"""From a name or a file to a network that takes raw pixels and ends in a feature map."""

import logging
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from rsml.layers.preprocess import MODES, Preprocess, extend
from rsml.models.insert import insert_after
from rsml.models.names import HUB, backbone_names, hub_preset, known, twin
from rsml.models.surgery import calls, feature_map, rebuild, require_functional, stages_of
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line
from rsml.weights.arrays import find_weights
from rsml.weights.ice import ice_pixels
from rsml.weights.load import adapt_layer, load_weights
from rsml.weights.models import load_model, model_config
from rsml.weights.published import IMAGENET, imagenet_file, sensor_of
from rsml.weights.report import LoadReport

logger = logging.getLogger(__name__)

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
        name: One of ours in torchvision's spelling ("resnet50", "swin_t"), "small", "keras:ResNet50" and so on for
            `keras.applications` (see `rsml.models.names.known`), "keras_hub:<preset>" where keras-hub is installed, a
            `.keras` or whole-model `.h5` file, a run folder, or a functional Keras model. Models are cut at their last
            feature map before pooling.
        image_size: Height and width of the images, or one number for both.
        weights: "imagenet" ("imagenet_v2": torchvision's later recipe), a weights file or run folder (see
            `load_weights`), or None: a random start for a name, and the weights that it comes with for a file or model.
        bands: Bands of the images. A network made for another number gets a first convolution adapted from its
            weights, by the rule of `adapt_bands`; the means and scales in front are extended by their average.
        preprocess: A mode of `Preprocess`, or such a layer. None takes what belongs to the name. A file or model must
            be told, unless a Preprocess, Rescaling or Normalization layer before its first weights shows that it takes
            raw pixels. Weights of a run, or of satellite images in a file named as TorchGeo names it, bring theirs.
        trust: Load a model file that carries code (Lambda layers).
    """
    size = _image_size(image_size)
    if not isinstance(bands, int) or bands < 1:
        raise UserError(f"bands must be a whole number of at least 1; got {bands!r}.")
    if isinstance(preprocess, str) and preprocess not in MODES:
        raise UserError(f"There is no preprocessing {preprocess!r}; choose one of {', '.join(MODES)}.")
    report, chosen = None, None
    if isinstance(name, keras.Model) or _is_path(str(name)):
        if weights in IMAGENET:
            raise UserError(
                f"{getattr(name, 'name', name)} brings its own weights; leave out weights={weights!r}, "
                "or name a backbone"
            )
        title, core = _given(name, trust)
        core, pretrained, mode = _cut(title, core), True, None
        file = None if isinstance(name, keras.Model) else find_weights(name)
        preprocess = pixels_of(title, core, preprocess, file)
        core = with_bands(core, bands)
    elif str(name).startswith(HUB):
        title, pretrained = str(name).removeprefix(HUB), weights == "imagenet"
        core, mode = hub_preset(title, size, pretrained)
        if mode is None and preprocess is None:
            raise UserError(f"How {HUB}{title} wants its pixels is not in the preset: give preprocess=.")
        core = with_bands(_cut(title, core), bands, keep=pretrained)
    else:
        found = known(str(name))
        title, mode = found.name, found.mode
        pretrained = weights == "imagenet" and not found.own
        if weights in IMAGENET and not pretrained:
            weights = imagenet_file(title, str(weights))
        elif weights is not None and not pretrained and preprocess is None:
            preprocess, chosen = _learned_with(find_weights(weights), bands)
        core = with_bands(found.build(size, bands, pretrained), bands, keep=pretrained)
    model = compose(title, core, size, bands, preprocess_layer(preprocess or mode, bands))
    if weights == "imagenet":
        matched = {layer.name: layer.name for layer in model.layers if layer.weights}
        adapted = {} if bands == 3 else {_front(core)[-1].name: f"from 3 to {bands} bands"}
        counts = (model.count_params(), model.count_params())
        report = LoadReport("ImageNet", matched=matched, adapted=adapted, parameters=counts)
    elif weights is not None:
        report = load_weights(model, weights, chosen)
        if report.parameters[0] < report.parameters[1] / 2:
            # Names that Keras made up let a few layers of any two networks look alike.
            other = f" If it is of {keras_name}, name that backbone." if (keras_name := twin(title)) else ""
            raise UserError(f"{weights} is of another architecture than {title}: {report.text()}{other}")
        pretrained = True
    return Backbone(title, model, pretrained, report)


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


def _is_path(name: str) -> bool:
    return name.endswith((".keras", ".h5", ".hdf5")) or ("/" in name and ":" not in name) or Path(name).is_dir()


def _image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sizes) != 2 or not all(isinstance(side, int) and side > 0 for side in sizes):
        raise UserError(f"image_size must be one or two whole numbers of pixels; got {size!r}.")
    return sizes


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
        preprocess = _ice_mode(file)
    if not own and preprocess is None:
        raise UserError(
            f"How {title} wants its pixels is not in the file: give preprocess= one of {', '.join(MODES)} "
            "('none' if it takes 0 to 255; rsml convert: --preprocess)."
        )
    return preprocess


def _ice_mode(file: Path) -> str | None:
    """The preprocessing of an ICE network of Keras 2, which is logged; None for any other file."""
    mode = ice_pixels(file)
    if mode is not None:
        logger.info("%s: an ICE network of Keras 2; preprocessing '%s', as it was trained", file.name, mode)
    return mode


def _learned_with(file: Path, bands: int) -> tuple[str | Preprocess | None, list[int] | None]:
    """How the network behind a weights file got its pixels, where the file tells, and which of its bands are meant."""
    mode = _ice_mode(file)
    if mode is not None:
        return mode, None
    sensor = sensor_of(file)
    if sensor is None:
        return _carried(file), None
    chosen = sensor.chosen(bands)
    if not chosen:
        raise UserError(
            f"{file.name} learned on {len(sensor.bands)} bands ({', '.join(sensor.bands)}), the images have {bands}; "
            "choose the same with data.bands, in this order, or give model.preprocess= to have it adapted all the same."
        )
    names, (low, high) = ", ".join(sensor.bands[band] for band in chosen), sensor.values
    logger.info("%s: takes %s in this order, with data.value_range=[%g, %g]", file.name, names, low, high)
    return sensor.preprocess(chosen), chosen


def _carried(file: Path) -> Preprocess | None:
    """The preprocessing in a whole model of ours."""
    try:
        listed = model_config(file)["config"]["layers"]
    except (UserError, KeyError, TypeError):  # weights alone, or no functional model
        return None
    found = [layer["config"] for layer in listed if layer.get("registered_name") == "rsml>Preprocess"]
    return Preprocess.from_config(found[0]) if found else None


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

    def fresh(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in front or not _depends_on_bands(layer):
            return layer
        config = layer.get_config()
        for key in ("mean", "scale", "offset", "variance"):
            if isinstance(config.get(key), (list, tuple)):
                config[key] = list(extend(config[key], bands))
        if "bands" in config:
            config["bands"] = bands
        config.pop("band_names", None)
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
            f"{size[0]} x {size[1]}: {in_a_line(error)}"
        ) from None
