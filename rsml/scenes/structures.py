"""What is built: houses, blocks, mobile homes, tanks, courts, fences, pools and piers."""

from __future__ import annotations

import math

from rsml.scenes.canvas import Canvas, Point
from rsml.scenes.materials import (
    BUILDING,
    COURT,
    DOCK,
    FIXTURE,
    MOBILE_HOME,
    PAVEMENT,
    POOL,
    TANK,
    Colour,
    mix,
    shade,
    vary,
)
from rsml.scenes.vehicles import WHITE

_ROOFS: tuple[Colour, ...] = (
    (128, 118, 112),
    (150, 140, 132),
    (104, 98, 98),
    (168, 120, 92),
    (176, 110, 82),
    (142, 108, 88),
    (186, 178, 168),
    (116, 106, 94),
)
_FLAT_ROOFS: tuple[Colour, ...] = (
    (206, 204, 200),
    (188, 184, 178),
    (222, 220, 216),
    (164, 160, 158),
    (134, 130, 130),
    (178, 164, 148),
    (156, 134, 120),
)


def gabled(
    canvas: Canvas,
    x: float,
    y: float,
    length: float,
    width: float,
    angle: float,
    colour: Colour,
    hipped: bool,
    height: float = 5.0,
    material: int = BUILDING,
) -> None:
    """Draws a roof with a ridge along its length; the slopes that face the sun are brighter."""
    if not canvas.sees(x, y, length):
        return
    cos, sin = math.cos(angle), math.sin(angle)
    inset = min(width / 2, length / 2 - 0.3) if hipped else 0.0

    def corner(u: float, v: float) -> Point:
        return (x + u * cos - v * sin, y + u * sin + v * cos)

    half, side = length / 2, width / 2
    ridge = (corner(-half + inset, 0), corner(half - inset, 0))
    corners = (corner(-half, -side), corner(half, -side), corner(half, side), corner(-half, side))
    steep = 0.27
    slopes: list[tuple[tuple[Point, ...], float]] = [
        ((corners[0], corners[1], ridge[1], ridge[0]), angle - math.pi / 2),
        ((corners[2], corners[3], ridge[0], ridge[1]), angle + math.pi / 2),
    ]
    if hipped:
        slopes += [
            ((corners[1], corners[2], ridge[1]), angle),
            ((corners[3], corners[0], ridge[0]), angle + math.pi),
        ]
    canvas.polygon(corners, material, colour, height)
    for outline, falls in slopes:
        canvas.polygon(outline, material, shade(colour, 1 + steep * canvas.facing(falls)))
    canvas.band(ridge, 0.25, material, shade(colour, 1.22))


def house(canvas: Canvas, x: float, y: float, length: float, width: float, angle: float) -> None:
    """Draws a family house: one roof, often with a wing."""
    if not canvas.sees(x, y, length + 8):
        return
    rng = canvas.rng
    colour = vary(rng, rng.choice(_ROOFS), 0.12, 0.03)
    hipped = rng.random() < 0.5
    if rng.random() < 0.12:
        block(canvas, x, y, length, width, angle, 4.0)
        return
    height = rng.uniform(4, 6.5)
    if rng.random() < 0.5:
        side = rng.choice((-1, 1))
        u, v = rng.uniform(-0.25, 0.25) * length, side * width * 0.35
        cos, sin = math.cos(angle), math.sin(angle)
        gabled(
            canvas,
            x + u * cos - v * sin,
            y + u * sin + v * cos,
            width * 0.95,
            length * rng.uniform(0.35, 0.5),
            angle + math.pi / 2,
            colour,
            hipped,
            height - 0.4,
        )
    gabled(canvas, x, y, length, width * rng.uniform(0.75, 1), angle, colour, hipped, height)


def block(
    canvas: Canvas, x: float, y: float, length: float, width: float, angle: float, height: float, wings: bool = False
) -> None:
    """Draws a flat-roofed building with a parapet and machines on the roof; tall ones show a wall."""
    if not canvas.sees(x, y, length + width):
        return
    rng = canvas.rng
    colour = vary(rng, rng.choice(_FLAT_ROOFS), 0.1, 0.03)
    cos, sin = math.cos(angle), math.sin(angle)
    # The camera's lean is fixed in the image; turn it into the scene's own directions.
    a, b = canvas.lean[0] * height, canvas.lean[1] * height
    turn_cos, turn_sin = math.cos(canvas.rotation), math.sin(canvas.rotation)
    dx, dy = a * turn_cos + b * turn_sin, b * turn_cos - a * turn_sin
    parts = [(0.0, 0.0, length, width)]
    if wings and min(length, width) > 14:
        side, share = rng.choice((-1, 1)), rng.uniform(0.35, 0.5)
        parts = [(0.0, side * width * (0.5 - share / 2), length, width * share)]
        for end in (-1, 1)[: rng.choice((1, 2))]:
            parts.append((end * length * 0.36, 0.0, length * 0.28, width))

    def lay(inset: float, material: int, tone: Colour, tall: float | None, shift_x: float, shift_y: float) -> None:
        for u, v, along, across in parts:
            px, py = x + u * cos - v * sin + shift_x, y + u * sin + v * cos + shift_y
            canvas.rectangle(px, py, along - inset, across - inset, angle, material, tone, tall)

    if height > 6 and math.hypot(dx, dy) > 0.5:
        steps = max(2, int(math.hypot(dx, dy) / 0.6))
        wall = shade(colour, 0.62 + 0.15 * canvas.facing(math.atan2(-dy, -dx)))
        for step in range(steps):
            tone = wall if step % 3 else shade(wall, 0.8)
            lay(0, BUILDING, tone, height, dx * step / steps, dy * step / steps)
    lay(0, BUILDING, shade(colour, 1.2), height, dx, dy)
    lay(0.9, BUILDING, colour, None, dx, dy)
    for u, v, along, across in parts:
        if min(along, across) < 7:
            continue
        for _ in range(int(rng.uniform(0, 1) * along * across / 60) + 1):
            px, py = u + rng.uniform(-0.4, 0.4) * along, v + rng.uniform(-0.38, 0.38) * across
            size = rng.uniform(1.2, 3.2)
            tone = shade(colour, rng.choice((0.6, 0.75, 1.2)))
            mx, my = x + px * cos - py * sin + dx, y + px * sin + py * cos + dy
            canvas.rectangle(mx, my, size, size * rng.uniform(0.5, 1), angle, BUILDING, tone, height + 1.4)


def mobile_home(canvas: Canvas, x: float, y: float, length: float, angle: float) -> None:
    """Draws a long narrow caravan-like home with a flat bright roof, seams, and often a carport."""
    if not canvas.sees(x, y, length):
        return
    rng = canvas.rng
    white = (222, 220, 214)
    colour = vary(rng, rng.choice((white, white, white, (196, 190, 180), (170, 160, 150), (186, 196, 204))), 0.08, 0.03)
    width = rng.uniform(4.0, 5.2) * rng.choice((1, 1, 1.5))
    cos, sin = math.cos(angle), math.sin(angle)
    gabled(canvas, x, y, length, width, angle, colour, False, 3.6, MOBILE_HOME)
    for k in range(1, 4):
        offset = (k / 4 - 0.5) * length
        canvas.rectangle(x + cos * offset, y + sin * offset, 0.3, width, angle, MOBILE_HOME, shade(colour, 0.86))
    if rng.random() < 0.55:
        side = width / 2 + 1.3
        u = rng.uniform(-0.2, 0.2) * length
        px, py = x + u * cos - side * sin, y + u * sin + side * cos
        canvas.rectangle(px, py, length * 0.4, 2.6, angle, MOBILE_HOME, shade(colour, rng.choice((0.72, 0.85))), 2.6)


def tank(canvas: Canvas, x: float, y: float, radius: float, height: float) -> None:
    """Draws a round storage tank: fixed, floating or domed roof."""
    rng = canvas.rng
    white = (224, 223, 218)
    colour = vary(rng, rng.choice((white, white, white, (178, 170, 158), (150, 178, 168), (166, 124, 96))), 0.08, 0.02)
    turn_cos, turn_sin = math.cos(canvas.rotation), math.sin(canvas.rotation)
    a, b = canvas.lean[0] * height, canvas.lean[1] * height
    dx, dy = a * turn_cos + b * turn_sin, b * turn_cos - a * turn_sin
    for step in range(4):
        canvas.circle(x + dx * step / 4, y + dy * step / 4, radius, TANK, shade(colour, 0.66), height)
    x, y = x + dx, y + dy
    canvas.circle(x, y, radius, TANK, shade(colour, 1.1), height)
    kind = rng.random()
    edge = max(0.5, radius * 0.05)
    if kind < 0.4:
        canvas.circle(x, y, radius - edge, TANK, colour)
        for k in range(8):
            turn = k * math.pi / 4
            spoke = ((x, y), (x + math.cos(turn) * radius, y + math.sin(turn) * radius))
            canvas.band(spoke, 0.15, TANK, shade(colour, 0.88))
        canvas.circle(x, y, radius * 0.08, TANK, shade(colour, 0.7))
    elif kind < 0.75:
        # A floating roof lies lower than the rim, which throws its own shadow on it.
        inner = vary(rng, rng.choice(((150, 148, 142), (196, 192, 184), (132, 122, 112))), 0.1)
        canvas.circle(x, y, radius - edge, TANK, inner, height - rng.uniform(1, height * 0.6))
        canvas.circle(x, y, radius * 0.72, TANK, shade(inner, 1.06))
        turn = rng.uniform(0, 6.28)
        ladder = ((x, y), (x + math.cos(turn) * (radius - edge), y + math.sin(turn) * (radius - edge)))
        canvas.band(ladder, 0.7, TANK, shade(inner, 0.7))
    else:
        east, south = canvas.sun
        sun_x, sun_y = east * turn_cos + south * turn_sin, south * turn_cos - east * turn_sin
        for k in range(10):
            size, shift = radius * (1 - k / 10), radius * k / 10 * 0.6
            tone = shade(colour, 0.8 + 0.035 * k)
            canvas.circle(x + sun_x * shift, y + sun_y * shift, size, TANK, tone)
    stair = rng.uniform(0, 6.28)
    rail = [(x + math.cos(stair + k * 0.12) * radius, y + math.sin(stair + k * 0.12) * radius) for k in range(7)]
    canvas.band(rail, 0.6, TANK, shade(colour, 0.55))


def tennis_court(canvas: Canvas, x: float, y: float, angle: float, inner: Colour, outer: Colour) -> None:
    """Draws one tennis court (36 x 18 m with its surround, 23.77 x 10.97 m between the lines)."""
    cos, sin = math.cos(angle), math.sin(angle)

    def at(u: float, v: float) -> Point:
        return (x + u * cos - v * sin, y + u * sin + v * cos)

    canvas.rectangle(x, y, 35, 17.4, angle, COURT, outer)
    canvas.rectangle(x, y, 23.77, 10.97, angle, COURT, inner)
    line = mix(WHITE, inner, 0.1)
    for v in (-5.48, -4.11, 4.11, 5.48):
        canvas.band((at(-11.9, v), at(11.9, v)), 0.22, COURT, line)
    for u in (-11.88, 11.88):
        canvas.band((at(u, -5.48), at(u, 5.48)), 0.22, COURT, line)
    for u in (-6.4, 6.4):
        canvas.band((at(u, -4.11), at(u, 4.11)), 0.22, COURT, line)
    canvas.band((at(-6.4, 0), at(6.4, 0)), 0.22, COURT, line)
    canvas.band((at(0, -6.2), at(0, 6.2)), 0.3, COURT, shade(inner, 0.5), 1.0)


def fence(canvas: Canvas, corners: list[Point], height: float = 3.0) -> None:
    """Draws a thin fence with a shadow along a closed outline."""
    tone = (96, 98, 96)
    for first, second in zip(corners, corners[1:] + corners[:1], strict=True):
        canvas.band((first, second), 0.2, FIXTURE, tone, height)


def pool(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """Draws a swimming pool with a pale rim."""
    rng = canvas.rng
    length, width = rng.uniform(6, 10), rng.uniform(3.5, 5)
    canvas.rectangle(x, y, length + 2.4, width + 2.4, angle, PAVEMENT, shade(canvas.palette.concrete, 1.08))
    canvas.rectangle(x, y, length, width, angle, POOL, vary(rng, (84, 172, 196), 0.1))


def pier(canvas: Canvas, start: Point, end: Point, width: float) -> None:
    """Draws a floating dock of planks between two points."""
    colour = vary(canvas.rng, canvas.rng.choice(((196, 188, 172), (176, 164, 144), (206, 202, 194))), 0.08)
    canvas.band((start, end), width, DOCK, colour, 0.6)
    canvas.band((start, end), width * 0.2, DOCK, shade(colour, 0.92))
