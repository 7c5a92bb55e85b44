"""What a tile's pixels are turned into, and which tiles are of no use: stretch to 8 bit, filters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pydantic

from rsml.utils.settings import Settings

KEPT = "kept"
DAMAGED = "damaged"


class Filters(Settings):
    """When a tile is dropped. Brightness is the mean over the bands after the stretch, 0 to 255, of valid pixels.

    The first that fits is the tile's reason, in this order: nodata, empty, dark, low contrast, cloud.

    Args:
        max_nodata: Share of pixels that may be missing.
        black: A pixel below is dark; a tile with nothing above it is empty.
        max_dark: Share of valid pixels that may be dark.
        min_contrast: Least difference of the 1st and the 99th percentile of brightness, as a share of 255.
        white: A pixel above is cloud.
        max_cloud: Share of valid pixels that may be cloud.
    """

    max_nodata: float = pydantic.Field(0.1, ge=0, le=1)
    black: float = pydantic.Field(20, ge=0, le=255)
    max_dark: float = pydantic.Field(0.1, ge=0, le=1)
    min_contrast: float = pydantic.Field(0.05, ge=0, le=1)
    white: float = pydantic.Field(230, ge=0, le=255)
    max_cloud: float = pydantic.Field(0.5, ge=0, le=1)


@dataclass(frozen=True)
class Measures:
    """What the filters look at.

    Args:
        nodata: Share of pixels that are missing.
        maximum: Greatest brightness.
        dark: Share of valid pixels that are dark.
        contrast: Between the 1st and the 99th percentile of brightness, as a share of 255.
        cloud: Share of valid pixels that are cloud.
    """

    nodata: float
    maximum: float = 0.0
    dark: float = 0.0
    contrast: float = 0.0
    cloud: float = 0.0

    def rounded(self) -> dict[str, float]:
        """By name, with four decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure_tile(image: np.ndarray, valid: np.ndarray, filters: Filters) -> Measures:
    """Measures a tile.

    Args:
        image: (bands, height, width) uint8.
        valid: (height, width) bool.
        filters: Where dark ends and cloud begins.
    """
    count = int(valid.sum())
    missing = 1 - count / valid.size
    if count == 0:
        return Measures(missing)
    bands = len(image)
    # The histogram of the bands' sum holds all that is asked of their mean, exactly.
    total = image.sum(axis=0, dtype=np.uint32)
    histogram = np.bincount(total.ravel() if count == valid.size else total[valid], minlength=255 * bands + 1)
    level = np.arange(len(histogram))
    low, high = _percentiles(histogram, count, (0.01, 0.99))
    return Measures(
        nodata=missing,
        maximum=float(np.flatnonzero(histogram)[-1]) / bands,
        dark=float(histogram[level < filters.black * bands].sum()) / count,
        contrast=(high - low) / (255 * bands),
        cloud=float(histogram[level > filters.white * bands].sum()) / count,
    )


def judge(measures: Measures, filters: Filters) -> str:
    """Why a tile is dropped, or "kept"."""
    if measures.nodata > filters.max_nodata or measures.nodata == 1:
        return "nodata"
    if measures.maximum < filters.black:
        return "empty"
    if measures.dark > filters.max_dark:
        return "dark"
    if measures.contrast < filters.min_contrast:
        return "low contrast"
    if measures.cloud > filters.max_cloud:
        return "cloud"
    return KEPT


def limits_of(
    values: np.ndarray, valid: np.ndarray, percentiles: tuple[float, float], each_band: bool
) -> list[tuple[float, float]]:
    """The values that become 0 and 255, for every band.

    Pixels that are 0 in all bands are left out too: most collars around scenes are, and few files say so.

    Args:
        values: (bands, height, width) of an overview.
        valid: (height, width) bool.
        percentiles: Low and high.
        each_band: Limits for each band of its own, else one pair for all.
    """
    used = valid & (values != 0).any(axis=0)
    if not used.any():
        return [(0.0, 0.0)] * len(values)
    pixels = values[:, used]
    found = [np.percentile(part, percentiles) for part in (pixels if each_band else [pixels] * len(pixels))]
    return [(float(low), float(high)) for low, high in found]


def stretch(values: np.ndarray, valid: np.ndarray, limits: list[tuple[float, float]] | None) -> np.ndarray:
    """(bands, height, width) uint8: limits become 0 and 255, between them linear, rounded; missing pixels are 0.

    Args:
        values: (bands, height, width), any type of number.
        valid: (height, width) bool.
        limits: (low, high) of every band; None takes the values as they are.
    """
    result = np.empty(values.shape, np.uint8)
    # float32 holds every whole number of 16 bits; wider types need the longer mantissa.
    kind = np.float32 if values.dtype.itemsize <= 2 else np.float64
    for band, found in enumerate(values):
        scaled = found.astype(kind)
        if limits is not None:
            low, high = limits[band]
            scaled -= kind(low)
            scaled *= kind(255 / (high - low) if high > low else 0)
        np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
        scaled[~valid] = 0
        result[band] = scaled
    return result


def _percentiles(histogram: np.ndarray, count: int, shares: tuple[float, float]) -> list[float]:
    """As `np.percentile` interpolates, of the values that a histogram counts."""
    below = np.cumsum(histogram)
    result = []
    for share in shares:
        place = share * (count - 1)
        first = int(place)
        low, high = np.searchsorted(below, [first, min(first + 1, count - 1)], side="right")
        result.append(float(low + (high - low) * (place - first)))
    return result
