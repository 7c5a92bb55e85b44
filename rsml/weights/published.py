"""Weights that others publish: fetch torchvision's, and know what pixels those of satellite images learned on."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rsml.layers.preprocess import Preprocess
from rsml.utils.download import fetch, sha256_of
from rsml.utils.errors import UserError

_SOURCE = "https://download.pytorch.org/models/"
# The end of each name is the beginning of the file's SHA-256. "imagenet_v2" are torchvision's later recipes.
_FILES = {
    "imagenet": (
        "resnet18-f37072fd resnet34-b627a593 resnet50-0676ba61 resnet101-63fe2227 wide_resnet50_2-95faca4d "
        "vgg16_bn-6c64b313 swin_t-704ceda3 swin_s-5e29d889 swin_b-68c6b09e swin_v2_t-b137f0e2 swin_v2_s-637d8ceb "
        "swin_v2_b-781e5279 vit_b_16-c867db91 vit_b_32-d86f8d99 vit_l_16-852ce7e3 vit_l_32-c7638314 "
        "convnext_tiny-983f1562 convnext_small-0c510722 convnext_base-6075fbad convnext_large-ea097f82"
    ),
    "imagenet_v2": "resnet50-11ad3fa6 resnet101-cd907fc2 wide_resnet50_2-9ba9bcbe",
}
IMAGENET: dict[str, dict[str, str]] = {
    which: {stem.rpartition("-")[0]: f"{stem}.pth" for stem in stems.split()} for which, stems in _FILES.items()
}
IMAGENET["imagenet"]["vgg16_bn_mlp"] = IMAGENET["imagenet"]["vgg16_bn"]
"""For "imagenet" and "imagenet_v2": name of a network -> torchvision's file."""


def imagenet_file(name: str, which: str = "imagenet") -> Path:
    """The file of a network's ImageNet weights as torchvision publishes it, fetched once.

    Looked for in Keras's folder of models (`~/.keras/models`), then in PyTorch's; used only where its hash is right.

    Args:
        name: The network, in torchvision's spelling.
        which: "imagenet", or "imagenet_v2" where torchvision trained a second time.
    """
    if name not in IMAGENET.get(which, {}):
        raise UserError(
            f"{name} has no ImageNet weights to fetch as {which!r}; give weights= a file, start at random "
            "(--set model.weights=None), or name another backbone."
        )
    file = IMAGENET[which][name]
    digits = file.removesuffix(".pth").rpartition("-")[2]
    for folder in _folders():
        if (folder / file).is_file() and sha256_of(folder / file).startswith(digits):
            return folder / file
    path = next(_folders()) / file
    advice = f"connect to the network once, put the file into {path.parent}, or give weights= a file."
    return fetch(_SOURCE + file, path, digits, subject=f"The ImageNet weights of {name}", advice=advice)


def _folders() -> Iterator[Path]:
    yield Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    torch = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    yield Path(torch).expanduser() / "hub" / "checkpoints"


@dataclass(frozen=True)
class Sensor:
    """The pixels that a weights file learned on.

    Attributes:
        bands: Their names, in the order of the file.
        mean: What was subtracted from the sensor's values, one number or one a band.
        scale: What was divided by.
        values: The values that become 0 and 255 (`data.value_range`), so that none of note is cut off.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)
    values: tuple[float, float] = (0.0, 255.0)

    def chosen(self, bands: int) -> list[int]:
        """Which of the file's bands images of so many bands have: all, or red, green and blue.

        An empty list where neither can be meant.
        """
        if bands == len(self.bands):
            return list(range(bands))
        colours = [self.bands.index(name) for name in ("B04", "B03", "B02") if name in self.bands]
        return colours if bands == len(colours) == 3 else []

    def preprocess(self, chosen: list[int]) -> Preprocess:
        """What brings pixels of 0 to 255 to the numbers that the file learned on."""
        low, high = self.values
        step = 255 / (high - low)
        mean, scale = (values * (len(self.bands) // len(values)) for values in (self.mean, self.scale))
        return Preprocess(
            "custom",
            bands=len(chosen),
            mean=[(mean[band] - low) * step for band in chosen],
            scale=[scale[band] * step for band in chosen],
            band_names=[self.bands[band] for band in chosen],
            name="preprocess",
        )


_SENTINEL2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_SENTINEL2_MEAN = (1612.9, 1397.6, 1322.3, 1373.1, 1561, 2108.4, 2390.7, 2318.7, 2581, 837.7, 22, 2195.2, 1537.4)
_SENTINEL2_SCALE = (791, 854.3, 878.7, 1144.9, 1127.5, 1164.2, 1276, 1249.5, 1345.9, 577.5, 47.5, 1340, 1142.9)
_SATLAS = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12")
# Names of files as TorchGeo publishes them, which tell the bands and the scaling that its transforms apply. Satlas
# learned red, green and blue from the true-colour product, whose 255 is a reflectance value of 3558.
_SENSORS: tuple[tuple[str, Sensor], ...] = (
    (
        r"_sentinel2_all_(moco|dino)|ssl4eo-s12_ms_decur|^B13_vit\w+_(mae|fgmae)_",
        Sensor(_SENTINEL2, scale=(10000.0,), values=(0.0, 10000.0)),
    ),
    (r"^B13_\w+_softcon", Sensor(_SENTINEL2, _SENTINEL2_MEAN, _SENTINEL2_SCALE, (0.0, 10000.0))),
    (r"_sentinel2_rgb_moco", Sensor(("B04", "B03", "B02"), scale=(10000.0,), values=(0.0, 10000.0))),
    (r"^sentinel2_\w+_[ms]i_ms\b", Sensor(_SATLAS, (0.0,) * 9, (3558.0,) * 3 + (8160.0,) * 6, (0.0, 8160.0))),
    (r"^sentinel2_\w+_[ms]i_rgb\b", Sensor(("B04", "B03", "B02"))),
    (r"^aerial_swinb_[ms]i\b", Sensor(("red", "green", "blue"))),
    (r"^landsat_swinb_[ms]i\b", Sensor(tuple(f"B{n:02}" for n in range(1, 12)), (4000.0,), (16320.0,), (4000, 20320))),
    (r"^sentinel1_swinb_[ms]i\b", Sensor(("VH", "VV"))),
    (
        r"_sentinel1_all_|ssl4eo-s12_sar_decur|^B2_\w+_(mae|fgmae|softcon)",
        Sensor(("VV", "VH"), (-12.59, -20.26), (5.26, 5.91), (-40.0, 10.0)),
    ),
    (r"_landsat_tm_toa_", Sensor(("B1", "B2", "B3", "B4", "B5", "B6", "B7"))),
    (r"_landsat_etm_toa_", Sensor(("B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7", "B8"))),
    (r"_landsat_etm_sr_", Sensor(("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"))),
    (r"_landsat_oli_tirs_toa_", Sensor(tuple(f"B{n}" for n in range(1, 12)))),
    (r"_landsat_oli_sr_", Sensor(tuple(f"SR_B{n}" for n in range(1, 8)))),
)


def sensor_of(path: Path) -> Sensor | None:
    """What a weights file of satellite images learned on, by its name as TorchGeo publishes it; else None."""
    return next((sensor for pattern, sensor in _SENSORS if re.search(pattern, path.name)), None)
