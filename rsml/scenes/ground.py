"""What lies along roads and on plots: lanes with their traffic, stalls, rows of trees, yards."""

from __future__ import annotations

import math
from collections.abc import Callable

from rsml.scenes.canvas import Canvas, Point
from rsml.scenes.materials import GRASS, PAVEMENT, SOIL, Colour, mix, shade, vary
from rsml.scenes.vehicles import WHITE, car, lorry

YELLOW: Colour = (214, 176, 70)
Curve = Callable[[float], float]


def along(canvas: Canvas, curve: Curve, lateral: float, step: float = 6.0) -> list[Point]:
    """Returns points along y = curve(x) + lateral, through the whole canvas."""
    count = int(2 * canvas.reach / step) + 2
    return [(-canvas.reach + k * step, curve(-canvas.reach + k * step) + lateral) for k in range(count)]


def slope(curve: Curve, x: float) -> float:
    """Returns the direction of a curve at x."""
    return math.atan2(curve(x + 0.5) - curve(x - 0.5), 1.0)


def dashes(
    canvas: Canvas, curve: Curve, lateral: float, on: float, off: float, colour: Colour, width: float = 0.25
) -> None:
    """Draws a broken lane line."""
    x = -canvas.reach + canvas.rng.uniform(0, on + off)
    while x < canvas.reach:
        if canvas.sees(x, curve(x) + lateral, on):
            canvas.band(((x, curve(x) + lateral), (x + on, curve(x + on) + lateral)), width, PAVEMENT, colour)
        x += on + off


def traffic(canvas: Canvas, curve: Curve, lateral: float, gap: float, forward: bool, lorries: float = 0.08) -> None:
    """Puts cars on a lane, about `gap` metres apart."""
    rng = canvas.rng
    x = -canvas.reach + rng.uniform(0, gap)
    while x < canvas.reach:
        angle = slope(curve, x) + (0 if forward else math.pi)
        y = curve(x) + lateral + rng.uniform(-0.3, 0.3)
        if rng.random() < lorries:
            lorry(canvas, x, y, angle)
            x += 14
        else:
            car(canvas, x, y, angle)
        x += 7 + rng.expovariate(1 / gap)


def carriageway(
    canvas: Canvas,
    curve: Curve,
    lateral: float,
    lanes: int,
    colour: Colour,
    gap: float,
    forward: bool,
    height: float | None = None,
) -> float:
    """Draws one direction of a motorway with shoulders, lines and traffic, and returns its width."""
    lane, shoulder = 3.6, 2.4
    width = lanes * lane + 2 * shoulder
    canvas.band(along(canvas, curve, lateral), width, PAVEMENT, colour, height)
    worn = shade(colour, 0.93 if sum(colour) > 300 else 1.07)
    left = lateral - lanes * lane / 2
    for k in range(lanes):
        canvas.band(along(canvas, curve, left + (k + 0.5) * lane), 1.9, PAVEMENT, worn)
    pale = mix(WHITE, colour, 0.12)
    canvas.band(along(canvas, curve, left), 0.25, PAVEMENT, pale)
    canvas.band(
        along(canvas, curve, left + lanes * lane), 0.25, PAVEMENT, mix(YELLOW, colour, 0.3) if forward else pale
    )
    for k in range(1, lanes):
        dashes(canvas, curve, left + k * lane, 3.2, 6.5, pale, 0.3)
    for k in range(lanes):
        traffic(canvas, curve, left + (k + 0.5) * lane, gap, forward)
    return width


def tree_line(canvas: Canvas, start: Point, end: Point, spacing: float, radius: tuple[float, float]) -> None:
    """Plants a row of trees."""
    rng = canvas.rng
    length = math.dist(start, end)
    for k in range(int(length / spacing) + 1):
        t = min(1.0, (k + rng.uniform(-0.2, 0.2)) * spacing / max(length, 1e-6))
        x, y = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t
        canvas.plant(
            x + rng.uniform(-1, 1), y + rng.uniform(-1, 1), rng.uniform(*radius), rng.choice(canvas.palette.trees)
        )


def stalls(
    canvas: Canvas, x: float, y: float, count: int, angle: float, full: float, pitch: float = 2.75, lines: bool = True
) -> None:
    """Draws a row of parking stalls centred at (x, y) along `angle`, a share `full` of them taken."""
    rng = canvas.rng
    cos, sin = math.cos(angle), math.sin(angle)
    line = mix(WHITE, canvas.palette.asphalt, 0.25)
    for k in range(count):
        u = (k - (count - 1) / 2) * pitch
        if not canvas.sees(x + u * cos, y + u * sin, 4):
            continue
        if lines:
            px, py = x + (u - pitch / 2) * cos, y + (u - pitch / 2) * sin
            canvas.band(((px + 2.4 * sin, py - 2.4 * cos), (px - 2.4 * sin, py + 2.4 * cos)), 0.15, PAVEMENT, line)
        taken, shift, flip = rng.random() < full, rng.uniform(-0.3, 0.3), rng.choice((1, -1))
        if taken:
            car(canvas, x + u * cos - shift * sin, y + u * sin + shift * cos, angle + flip * math.pi / 2)


def yard(canvas: Canvas, x: float, y: float, length: float, width: float, angle: float, bare: float) -> None:
    """Draws a plot of lawn, dry lawn or bare soil."""
    rng, palette = canvas.rng, canvas.palette
    kind = rng.random()
    if kind < bare:
        canvas.rectangle(x, y, length, width, angle, SOIL, vary(rng, palette.soil, 0.08))
    else:
        canvas.rectangle(x, y, length, width, angle, GRASS, vary(rng, palette.grass, 0.14, 0.05))
