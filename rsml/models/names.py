"""The backbones known by name: our own, those of keras.applications, and presets of keras-hub."""

import difflib
import inspect
import math
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from rsml.layers.preprocess import Preprocess
from rsml.models import convnext, efficientnet_lite, resnet, small, swin, vgg, vit
from rsml.models.insert import insert_after
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line

KERAS = "keras:"
HUB = "keras_hub:"

# How each family of keras.applications was trained. Those that can scale inside are built without it, so that the one
# Preprocess layer in front does it for any number of bands; only EfficientNet (B0 to B7) always scales inside.
_KERAS_MODES = {
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
# Builder, preprocessing and smallest side of each family of ours.
_FAMILIES = (
    ({"small": small.small}, "tf", 32),
    (resnet.BUILDERS, "torch", 32),
    (vgg.BUILDERS, "torch", 32),
    (swin.BUILDERS, "torch", 32),
    (vit.BUILDERS, "torch", None),
    (convnext.BUILDERS, "torch", 32),
    (efficientnet_lite.BUILDERS, "lite", 32),
)
_OWN = {name: (build, mode, side) for builders, mode, side in _FAMILIES for name, build in builders.items()}


@dataclass(frozen=True)
class Known:
    """A backbone that is known by name.

    Attributes:
        name: The documented spelling.
        mode: How it wants its pixels, a mode of `Preprocess`.
        own: Whether it is one of ours, whose weights are published as files.
    """

    name: str
    mode: str
    own: bool

    def build(self, size: tuple[int, int], bands: int, imagenet: bool = False) -> keras.Model:
        """A network of scaled pixels to the last feature map.

        Args:
            size: Height and width.
            bands: Channels of the images; a network of Keras is built for 3, whatever is asked.
            imagenet: Start from Keras's ImageNet weights; not for our own.
        """
        if not self.own:
            return _build_keras(self.name, size, imagenet)
        builder, _, smallest = _OWN[self.name]
        smallest = smallest or vit.patch_of(self.name)
        if min(size) < smallest:
            raise too_small(self.name, size, smallest)
        return builder(size, bands)


def backbone_names() -> list[str]:
    """All names that `load_backbone` builds by itself: our own as torchvision has them, Keras's behind "keras:"."""
    return sorted(_OWN) + sorted(KERAS + name for name in _applications())


def known(name: str) -> Known:
    """Finds a backbone by its name.

    Ours are meant by their exact spelling ("resnet50"). Everything else may be spelled in any way: behind "keras:" it
    is Keras's; bare it is Keras's too where Keras has one ("ResNet50", "efficientnet-b0"), and ours where only we do.
    """
    if name in _OWN:
        return Known(name, _OWN[name][1], own=True)
    bare = name[len(KERAS) :] if name.lower().startswith(KERAS) else name
    spelled = {_letters(other): other for other in _applications()}
    if bare is name:
        spelled = {_letters(other): other for other in _OWN} | spelled
    if _letters(bare) not in spelled:
        plain = {_letters(other.removeprefix(KERAS)) for other in backbone_names()}
        near = difflib.get_close_matches(_letters(bare), plain, n=2, cutoff=0.5)
        meant = [other for other in backbone_names() if _letters(other.removeprefix(KERAS)) in near]
        hint = f"did you mean {' or '.join(meant)}?" if meant else f"known are {', '.join(backbone_names())}."
        raise UserError(f"There is no backbone {name!r} (nor a file of that name); {hint}")
    found = spelled[_letters(bare)]
    if found in _OWN:
        return Known(found, _OWN[found][1], own=True)
    family = _applications()[found].__module__.rsplit(".", 1)[-1]
    if family not in _KERAS_MODES:
        raise UserError(f"The preprocessing of {found} is not known here; give preprocess= and the model as a file.")
    return Known(KERAS + found, _SCALED_OTHERWISE.get(found, _KERAS_MODES[family]), own=False)


def twin(name: str) -> str | None:
    """The name of Keras's network of the same architecture, for one of ours ("resnet50" -> "keras:ResNet50")."""
    spelled = {_letters(other): KERAS + other for other in _applications()}
    return spelled.get(_letters(name)) if name in _OWN else None


def _applications() -> dict[str, Callable[..., keras.Model]]:
    return {
        name: item
        for name, item in vars(keras.applications).items()
        if inspect.isfunction(item) and "include_top" in inspect.signature(item).parameters
    }


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _build_keras(name: str, size: tuple[int, int], imagenet: bool) -> keras.Model:
    build = _applications()[name.removeprefix(KERAS)]
    options: dict[str, Any] = {}
    if "include_preprocessing" in inspect.signature(build).parameters:
        options["include_preprocessing"] = False
    try:
        with warnings.catch_warnings(), _impatient_network():
            warnings.simplefilter("ignore")
            core = build(weights="imagenet" if imagenet else None, include_top=False, input_shape=(*size, 3), **options)
    except Exception as error:
        smallest = re.search(r"at least (\d+)x\d+", str(error))
        if smallest:
            raise too_small(name, size, int(smallest[1])) from None
        if imagenet and not isinstance(error, (ValueError, TypeError)):
            raise UserError(
                f"The ImageNet weights of {name} could not be fetched ({in_a_line(error)}); connect to the "
                "network once, or give weights= a file (.weights.h5, .h5, .keras) of this architecture."
            ) from None
        if isinstance(error, ValueError):
            raise UserError(f"{name} cannot be built for images of {size[0]} x {size[1]}: {in_a_line(error)}") from None
        raise
    if not imagenet and build.__module__.endswith(".efficientnet"):
        # Its ImageNet graph has one more layer than its random one. It is always built in, so that all published and
        # fine-tuned weights mean the same.
        norm = next(layer for layer in core.layers if isinstance(layer, keras.layers.Normalization))
        scale = [1 / math.sqrt(deviation) for deviation in (0.229, 0.224, 0.225)]
        core = insert_after(core, norm.name, keras.layers.Rescaling(scale, name="imagenet_rescaling"))
    return core


def hub_preset(preset: str, size: tuple[int, int], pretrained: bool) -> tuple[keras.Model, Preprocess | str | None]:
    """A backbone of keras-hub, and how it wants its pixels where the preset says.

    Args:
        preset: Its name or folder.
        size: Height and width.
        pretrained: Start from the preset's weights.
    """
    try:
        import keras_hub
    except ImportError:
        raise UserError(
            f"The backbone {HUB}{preset} needs keras-hub: pip install keras-hub, or name another backbone."
        ) from None
    try:
        with _impatient_network():
            core = keras_hub.models.Backbone.from_preset(preset, load_weights=pretrained, image_shape=(*size, 3))
    except Exception as error:
        raise UserError(
            f"keras-hub cannot give {preset!r}: {in_a_line(error)}; check the preset's name and the "
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


def too_small(name: str, size: tuple[int, int], smallest: int) -> UserError:
    """The error for images that a network cannot take."""
    return UserError(
        f"Images of {size[0]} x {size[1]} pixels are too small for {name}, which needs {smallest} x {smallest}; "
        "raise image_size or name another backbone."
    )
