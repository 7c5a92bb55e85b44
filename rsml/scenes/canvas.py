"""The sheet a scene is drawn on: colour, material and height in metres' coordinates, then light, texture and shadow.

A scene is drawn in metres around (0, 0), turned by a random angle, onto a canvas finer than the image. What a pixel is
made of is drawn together with its colour (as the fourth band), so that labels and land cover are read off the finished
picture. Heights are drawn beside it; the shadows and the shading of tree crowns are computed from them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from rsml.scenes import noise
from rsml.scenes.materials import TREE, Colour, Palette, shade, table

Point = tuple[float, float]

# Heights are 8-bit, in units of 1/400 of the canvas's side: 0.2 m where a scene is 80 m wide.
HEIGHT_UNITS = 400

_MOTTLE, _GRAIN, _TINT, _RELIEF = (table(name) for name in ("mottle", "grain", "tint", "relief"))


class Canvas:
    """A sheet of `work` x `work` pixels that shows `extent` x `extent` metres.

    Args:
        rng: all choices of the scene come from it; none may depend on `work`.
        work: side in pixels.
        extent: side in metres.
        palette: colours of the place and season.
    """

    def __init__(self, rng: random.Random, work: int, extent: float, palette: Palette):
        self.rng, self.work, self.extent, self.palette = rng, work, extent, palette
        self.reach = 0.72 * extent
        self.scale = work / extent
        self.raised = 0.0
        self._grid: tuple[np.ndarray, np.ndarray] | None = None
        self.turn(rng.uniform(0, 2 * math.pi))
        # The sun stands in the southern half of the sky (down in the image), as it does at noon north of the tropics.
        azimuth, elevation = math.radians(rng.uniform(-75, 75)), math.radians(rng.uniform(33, 65))
        self.sun = (math.sin(azimuth), math.cos(azimuth))
        self.shadow_length = 1 / math.tan(elevation)
        # An aeroplane's camera sees tall walls from one side: metres of shift per metre of height.
        side, lean = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.16)
        self.lean = (lean * math.cos(side), lean * math.sin(side))
        self.image = Image.new("RGBA", (work, work))
        self.height = Image.new("L", (work, work))
        self._draw, self._draw_height = ImageDraw.Draw(self.image), ImageDraw.Draw(self.height)
        self._offsets = [(rng.random(), rng.random()) for _ in range(12)]
        self._patterns: list[tuple[int, np.ndarray, Colour | None]] = []

    # Coordinates

    def turn(self, rotation: float) -> None:
        """Sets the angle by which all that is drawn from now on is turned around the middle."""
        self.rotation, self._grid = rotation, None
        self._unit_cos, self._unit_sin = math.cos(rotation), math.sin(rotation)
        self._cos, self._sin = self._unit_cos * self.scale, self._unit_sin * self.scale

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Turns points in metres into pixels."""
        cos, sin, middle = self._cos, self._sin, self.work / 2
        return [(x * cos - y * sin + middle, x * sin + y * cos + middle) for x, y in points]

    def sees(self, x: float, y: float, margin: float) -> bool:
        """Tells whether a thing that reaches `margin` metres around (x, y) may be in the picture."""
        cos, sin, limit = self._unit_cos, self._unit_sin, self.extent / 2 + margin
        return abs(x * cos - y * sin) < limit and abs(x * sin + y * cos) < limit

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y in metres of every pixel, each `(work, work)` float32."""
        if self._grid is None:
            axis = ((np.arange(self.work) + 0.5 - self.work / 2) / self.scale).astype(np.float32)
            cos, sin = np.float32(math.cos(self.rotation)), np.float32(math.sin(self.rotation))
            self._grid = (axis * cos + (axis * sin)[:, None], (axis * cos)[:, None] - axis * sin)
        return self._grid

    def facing(self, angle: float) -> float:
        """Returns how much (-1..1) a slope that falls in direction `angle` faces the sun."""
        turned = angle + self.rotation
        return math.cos(turned) * self.sun[0] + math.sin(turned) * self.sun[1]

    def noise(self, feature: float, which: int = 0) -> np.ndarray:
        """Returns noise of about -2..2 with spots `feature` metres apart; `which` tells fields of one scene apart."""
        image = noise.window(self.extent, feature, self._offsets[which], self.work)
        values = np.asarray(image).astype(np.float32)
        values -= np.float32(128)
        values *= np.float32(1 / 50)
        return values

    def streaks(self, angle: float, length: float, width: float, which: int = 0) -> np.ndarray:
        """Returns noise of about -2..2 drawn out to `length` metres along `angle` and `width` metres across it."""
        x, y = self.coordinates()
        cos, sin = math.cos(angle), math.sin(angle)
        shift = self._offsets[which]
        along = ((x * cos + y * sin) * (16 / length) + shift[0] * noise.TILE + 4096).astype(np.int32) & (noise.TILE - 1)
        across = ((y * cos - x * sin) * (16 / width) + shift[1] * noise.TILE + 4096).astype(np.int32) & (noise.TILE - 1)
        return noise.lookup(16)[across, along] * np.float32(1 / 50)

    # Drawing

    def fill(self, material: int, colour: Colour) -> None:
        """Covers everything."""
        self.image.paste((*colour, material), (0, 0, self.work, self.work))

    def polygon(self, points: Sequence[Point], material: int, colour: Colour, height: float | None = None) -> None:
        """Fills a polygon; `height` in metres, `None` leaves the height as it is."""
        pixels = self.place(points)
        self._draw.polygon(pixels, (*colour, material))
        if height is not None:
            self._draw_height.polygon(pixels, self.units(height))

    def rectangle(
        self,
        x: float,
        y: float,
        length: float,
        width: float,
        angle: float,
        material: int,
        colour: Colour,
        height: float | None = None,
    ) -> None:
        """Fills a rectangle around (x, y) whose length lies along `angle`."""
        cos, sin = math.cos(angle), math.sin(angle)
        a, b, c, d = cos * length / 2, sin * length / 2, -sin * width / 2, cos * width / 2
        corners = ((x + a + c, y + b + d), (x - a + c, y - b + d), (x - a - c, y - b - d), (x + a - c, y + b - d))
        self.polygon(corners, material, colour, height)

    def circle(
        self, x: float, y: float, radius: float, material: int, colour: Colour, height: float | None = None
    ) -> None:
        """Fills a circle."""
        ((px, py),) = self.place(((x, y),))
        reach = radius * self.scale
        box = (px - reach, py - reach, px + reach, py + reach)
        self._draw.ellipse(box, (*colour, material))
        if height is not None:
            self._draw_height.ellipse(box, self.units(height))

    def band(
        self, path: Sequence[Point], width: float, material: int, colour: Colour, height: float | None = None
    ) -> None:
        """Fills a band of `width` metres along a path; at least one pixel wide."""
        width = max(width, 1.0 / self.scale)
        left, right = [], []
        last = len(path) - 1
        for i, (x, y) in enumerate(path):
            (ax, ay), (bx, by) = path[max(i - 1, 0)], path[min(i + 1, last)]
            dx, dy = bx - ax, by - ay
            k = width / 2 / (math.hypot(dx, dy) or 1.0)
            left.append((x - dy * k, y + dx * k))
            right.append((x + dy * k, y - dx * k))
        self.polygon(left + right[::-1], material, colour, height)

    def blob(self, x: float, y: float, length: float, width: float, angle: float, rough: float = 0.25) -> list[Point]:
        """Returns the outline of a rounded irregular area around (x, y)."""
        rng = self.rng
        waves = [(k, rng.uniform(0, 6.28), rng.uniform(0.3, 1) * rough / k) for k in (2, 3, 5)]
        cos, sin = math.cos(angle), math.sin(angle)
        outline = []
        for step in range(36):
            turn = step * math.pi / 18
            radius = 0.5 * (1 + sum(a * math.sin(k * turn + p) for k, p, a in waves))
            u, v = length * radius * math.cos(turn), width * radius * math.sin(turn)
            outline.append((x + u * cos - v * sin, y + u * sin + v * cos))
        return outline

    def paint(self, mask: np.ndarray, material: int, colour: Colour | Image.Image, height: float | None = None) -> None:
        """Fills where a boolean `(work, work)` mask is true, with one colour or an RGB image."""
        # One-bit stencils are pasted without blending: a fifth of the time.
        stencil = Image.fromarray(mask)
        if isinstance(colour, Image.Image):
            layer = colour.copy()
            layer.putalpha(material)
            self.image.paste(layer, (0, 0), stencil)
        else:
            self.image.paste((*colour, material), (0, 0, self.work, self.work), stencil)
        if height is not None:
            self.height.paste(self.units(height), (0, 0, self.work, self.work), stencil)

    def pattern(self, material: int, values: np.ndarray, colour: Colour | None = None) -> None:
        """Lays a pattern over one material when the scene is finished.

        Args:
            material: the material that takes it.
            values: `(work, work)` float32: changes of brightness or, with `colour`, the share of that colour, 0..1.
            colour: the second colour, e.g. of soil between rows.
        """
        self._patterns.append((material, values, colour))

    def plant(self, x: float, y: float, radius: float, colour: Colour, material: int = TREE) -> None:
        """Puts one tree (or another material's shrub) on the ground."""
        variant = int(self.rng.random() * 24)
        ((px, py),) = self.place(((x, y),))
        reach = max(1, round(radius * self.scale))
        if not (-reach < px < self.work + reach and -reach < py < self.work + reach):
            return
        mask, height = noise.crown(variant, reach, self.work, material == TREE)
        corner = (int(px) - reach - 1, int(py) - reach - 1)
        self.image.paste((*colour, material), corner, mask)
        self.height.paste(height, corner, mask)

    def grow(
        self,
        spacing: float,
        radius: tuple[float, float],
        where: Callable[[float, float], float],
        material: int = TREE,
        colours: Sequence[Colour] | None = None,
        jitter: float = 0.9,
    ) -> None:
        """Plants a wood: points about `spacing` metres apart, kept with the probability that `where(x, y)` gives."""
        rng, reach = self.rng, self.reach + radius[1]
        colours = [shade(c, f) for c in (colours or self.palette.trees) for f in (0.86, 1.0, 1.14)]
        count = int(2 * reach / spacing) + 1
        for row in range(count):
            for column in range(count):
                x = -reach + (column + 0.5 * (row % 2) + jitter * (rng.random() - 0.5)) * spacing
                y = -reach + (row + jitter * (rng.random() - 0.5)) * spacing
                if not self.sees(x, y, radius[1]) or rng.random() >= where(x, y):
                    continue
                size, colour = rng.random(), colours[int(rng.random() * len(colours))]
                self.plant(x, y, radius[0] + (radius[1] - radius[0]) * size * size, colour, material)

    def units(self, metres: float) -> int:
        """Returns a height over the ground (or over a bridge: `raised`) in the units of the height sheet."""
        return max(0, min(255, round((metres + self.raised) * HEIGHT_UNITS / self.extent)))

    # Light

    def materials(self) -> np.ndarray:
        """Returns the material of every pixel, `(work, work)` uint8."""
        return np.asarray(self.image.getchannel("A"))

    def shadows(self) -> np.ndarray | None:
        """Returns the share of sunlight that other things take away, `(work, work)` float32 in 0..1, or `None`.

        The height that a sun ray must clear over a pixel is the maximum over t of height(x + t sun) - t slope. It is
        found by doubling: the maximum over 2n steps is that over n steps and the same, n steps away.
        """
        ground = np.asarray(self.height)
        tallest = int(ground.max())
        if tallest == 0:
            return None
        ground = ground.astype(np.int16) * np.int16(16)
        # One step is one pixel towards the sun; a ray rises by `slope` (in sixteenths of a unit) on the way.
        slope, tallest = 16 * HEIGHT_UNITS / self.work / self.shadow_length, 16 * tallest
        reach, step, clear = tallest / slope, 1, ground.copy()
        while step <= min(reach, self.work):
            dx, dy = round(self.sun[0] * step), round(self.sun[1] * step)
            np.maximum(clear, shifted(clear, dx, dy) - np.int16(round(slope * step)), out=clear)
            step *= 2
        return np.clip(clear - ground, 0, 64).astype(np.float32) * np.float32(1 / 64)

    def finish(self, darkness: tuple[float, float, float]) -> list[Image.Image]:
        """Lights the scene: patterns, texture, crown shading and shadows.

        Args:
            darkness: share of light that a full shadow takes from red, green and blue.

        Returns:
            The red, green and blue bands, each `(work, work)` 8-bit.
        """
        *colours, alpha = self.image.split()
        material = np.asarray(alpha)
        bands = [np.asarray(band).astype(np.float32) for band in colours]
        fine = max(0.8, 2.2 * self.extent / self.work)
        slow = self.noise(24, 0)
        index = material.astype(np.intp)
        light = slow * _MOTTLE.take(index)
        light += self.noise(fine, 1) * _GRAIN.take(index)
        light += np.float32(1)
        for kind, values, colour in self._patterns:
            where = material == kind
            if colour is None:
                np.add(light, values, out=light, where=where)
            else:
                for band, second in zip(bands, colour, strict=True):
                    np.add(band, values * (second - band), out=band, where=where)
        sun = self.sun
        relief = _RELIEF.take(index)
        if relief.any():
            ground = np.asarray(self.height, np.int16)
            slope = shifted(ground, -round(1.4 * sun[0]), -round(1.4 * sun[1])) - shifted(
                ground, round(1.4 * sun[0]), round(1.4 * sun[1])
            )
            steepness = np.float32(self.work / HEIGHT_UNITS * 0.16)
            light += np.clip(slope * steepness, np.float32(-0.5), np.float32(0.42)) * relief
        shadow = self.shadows()
        tint = self.noise(17, 2) * _TINT.take(index)
        result = []
        for band, dark, lean in zip(bands, darkness, (1.0, -0.15, 0.1), strict=True):
            lit = tint * np.float32(lean)
            lit += light
            lit *= band
            if shadow is not None:
                lit *= 1 - shadow * np.float32(dark)
            np.clip(lit, 0, 255, out=lit)
            result.append(Image.fromarray(lit.astype(np.uint8)))
        return result


def shifted(array: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Returns what lies dx columns right and dy rows down of every pixel; 0 outside."""
    result = np.zeros_like(array)
    height, width = array.shape
    if abs(dx) >= width or abs(dy) >= height:
        return result
    rows_to, rows_from = slice(max(0, -dy), height - max(0, dy)), slice(max(0, dy), height - max(0, -dy))
    columns_to, columns_from = slice(max(0, -dx), width - max(0, dx)), slice(max(0, dx), width - max(0, -dx))
    result[rows_to, columns_to] = array[rows_from, columns_from]
    return result
