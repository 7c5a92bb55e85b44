"""Images of the same ground, found by phase correlation: copies, overlapping tiles, tiles that border on others.

A phase correlation compares signals from which all but the phase of their spectrum is taken: two cuts of one picture
agree in a sharp peak, however bright each is. What it proposes is checked in the pixels, since lone edges agree too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from rsml.data.groups import of_every_image
from rsml.data.images import BandsNeeded, decode
from rsml.data.samples import Samples
from rsml.utils.progress import progress_bar

logger = logging.getLogger("rsml")

BORDER, THUMB, SMALL = 256, 64, 32
NEAR = 50
"""How far apart, in the order of names within a folder, overlapping tiles are looked for."""
# Chosen on UC Merced (4.4 million pairs): of 9 seams found 8 are right to the eye, the copy and the two large overlaps
# too; 5 pairs of runways that only look alike count as overlaps. Too much kept together costs nothing.
_COPY, _SEAM, _OVERLAP = 0.5, 0.3, 0.25
_AGREE, _LEAST_OVERLAP, _LEAST_CONTRAST = 0.9, 0.1, 4.0


class _Views(NamedTuple):
    """What is kept of each image: (4, 256) outermost and next rows of pixels, (64, 64) and (32, 32) grey."""

    edges: np.ndarray
    inner: np.ndarray
    thumb: np.ndarray
    small: np.ndarray


def find_neighbours(samples: Samples) -> np.ndarray:
    """Returns `(pairs, 2)` rows of images that show the same ground or touch."""
    views = _Views(*map(np.stack, zip(*of_every_image(_look, samples, "looking for neighbours"), strict=True)))
    copies, seams, overlaps = list(_copies(views)), list(_seams(views)), list(_overlaps(views, samples))
    logger.info(
        "neighbours: %d pairs of copies, %d of overlapping tiles, %d with borders that go on in one another",
        len(copies), len(overlaps), len(seams),
    )  # fmt: skip
    return np.array([*copies, *seams, *overlaps], dtype=np.int64).reshape(-1, 2)


def _look(file: str) -> _Views:
    try:
        image = decode(file)
    except BandsNeeded:
        image = decode(file, bands=[1])[..., 0]
    grey = Image.fromarray(image).convert("L")
    thumb, small = (
        np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR), np.float32) for side in (THUMB, SMALL)
    )
    full = np.asarray(grey, np.float32)
    edges, inner = (
        np.stack([_drawn_out(line) for line in (full[:, at], full[:, -1 - at], full[at], full[-1 - at])])
        for at in (0, min(1, min(full.shape) - 1))
    )  # left, right, top, bottom
    return _Views(edges, inner, thumb, small)


def _drawn_out(line: np.ndarray) -> np.ndarray:
    """A row of pixels at the length of all others."""
    strip = Image.fromarray(np.ascontiguousarray(line[None]))
    return np.asarray(strip.resize((BORDER, 1), Image.Resampling.BILINEAR), np.float32)[0]


def _phase(signals: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Spectra without their amplitudes, of `(samples, ...)` signals that fade out at their ends."""
    window = np.hanning(signals.shape[-1])
    window = window if len(axes) == 1 else np.outer(window, window)
    spectrum = np.fft.rfftn((signals - signals.mean(axes, keepdims=True)) * window, axes=axes)
    size = np.abs(spectrum)
    return spectrum / (size + 1e-3 * size.mean(axes, keepdims=True) + 1e-9)


def _flattened(signals: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """`(samples, values)` whose scalar products are phase correlations without a shift."""
    shape = [signals.shape[axis] for axis in axes]
    flat = np.fft.irfftn(_phase(signals, axes), s=shape, axes=axes).reshape(len(signals), -1).astype(np.float32)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)


def _pairs_above(one: np.ndarray, other: np.ndarray, least: float) -> Iterator[tuple[int, int]]:
    for start in range(0, len(one), 1024):
        products = one[start : start + 1024] @ other.T
        for row, column in np.argwhere(products > least).tolist():
            if start + row != column:
                yield start + row, column


def _copies(views: _Views) -> Iterator[tuple[int, int]]:
    flat = _flattened(views.small, (1, 2))
    for row, other in _pairs_above(flat, flat, _COPY):
        if row < other and _alike(views.small[row], views.small[other]):
            yield row, other


def _seams(views: _Views) -> Iterator[tuple[int, int]]:
    """Pairs between whose borders the picture changes hardly more than between rows of pixels inside."""
    step = np.sqrt(((views.edges - views.inner) ** 2).mean(2))  # (samples, 4)
    for side, opposite in ((1, 0), (3, 2)):
        one, other_end = (_flattened(views.edges[:, number], (1,)) for number in (side, opposite))
        for row, other in _pairs_above(one, other_end, _SEAM):
            ours, theirs = views.edges[row, side], views.edges[other, opposite]
            jump = np.sqrt(((ours - theirs) ** 2).mean())
            if jump < step[row, side] + step[other, opposite] and _alike(ours, theirs, 0.8):
                yield row, other


def _overlaps(views: _Views, samples: Samples) -> Iterator[tuple[int, int]]:
    """Pairs of near names in one folder that are the same where one is laid over the other, moved."""
    phases = _phase(views.thumb, (1, 2)).astype(np.complex64)
    folders: dict[str, list[int]] = {}
    for row, path in enumerate(samples.paths.tolist()):
        folders.setdefault(path.rpartition("/")[0], []).append(row)
    ordered = [sorted(rows, key=lambda row: samples.paths[row]) for rows in folders.values()]
    with progress_bar(title="laying over", unit="images", total=len(samples)) as bar:
        for rows in ordered:
            for number, row in enumerate(rows):
                others = rows[number + 1 : number + 1 + NEAR]
                if others:
                    peaks = np.fft.irfft2(phases[row] * np.conj(phases[others]), s=(THUMB, THUMB))
                    flat = peaks.reshape(len(others), -1)
                    for index in np.flatnonzero(flat.max(1) > _OVERLAP):
                        down, right = divmod(int(flat[index].argmax()), THUMB)
                        if _same_when_moved(views.thumb[row], views.thumb[others[index]], down, right):
                            yield row, others[index]
                bar.update()


def _same_when_moved(one: np.ndarray, other: np.ndarray, down: int, right: int) -> bool:
    # A shift is known but for whole lengths of the picture.
    for y in (down, down - THUMB):
        for x in (right, right - THUMB):
            height, width = THUMB - abs(y), THUMB - abs(x)
            if height * width < _LEAST_OVERLAP * THUMB**2:
                continue
            here = one[max(y, 0) : max(y, 0) + height, max(x, 0) : max(x, 0) + width]
            there = other[max(-y, 0) : max(-y, 0) + height, max(-x, 0) : max(-x, 0) + width]
            if _alike(here, there):
                return True
    return False


def _alike(one: np.ndarray, other: np.ndarray, least: float = _AGREE) -> bool:
    """Whether pixels correlate and there is something to see in them."""
    if min(one.std(), other.std()) < _LEAST_CONTRAST:
        return False
    return bool(np.corrcoef(one.ravel(), other.ravel())[0, 1] > least)
