"""The things that stand on the ground: cars, houses, blocks, ships, aeroplanes, tanks, courts, roads."""

from __future__ import annotations

import math
from collections.abc import Callable

from rsml.scenes.canvas import Canvas, Point
from rsml.scenes.materials import (
    AIRPLANE,
    BUILDING,
    CAR,
    COURT,
    DOCK,
    FIXTURE,
    GRASS,
    MOBILE_HOME,
    PAVEMENT,
    POOL,
    SHIP,
    SOIL,
    TANK,
    Colour,
    mix,
    shade,
    vary,
)

WHITE: Colour = (232, 232, 228)
YELLOW: Colour = (214, 176, 70)

_CARS: tuple[Colour, ...] = (
    (236, 236, 234),
    (222, 222, 220),
    (176, 178, 182),
    (140, 144, 150),
    (200, 202, 204),
    (112, 116, 122),
    (82, 84, 90),
    (64, 66, 72),
    (38, 38, 44),
    (52, 66, 110),
    (148, 40, 38),
    (110, 36, 40),
    (196, 186, 160),
    (52, 84, 72),
)
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


def car(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """Draws a car whose length lies along `angle`."""
    if not canvas.sees(x, y, 3):
        return
    rng = canvas.rng
    colour, length = vary(rng, rng.choice(_CARS), 0.1, 0.02), rng.uniform(4.1, 5.1)
    cos, sin = math.cos(angle), math.sin(angle)
    canvas.rectangle(x, y, length, 1.95, angle, CAR, colour, 1.5)
    glass = mix((34, 38, 46), colour, 0.12)
    for offset, depth in ((0.16 * length, 0.75), (-0.31 * length, 0.5)):
        canvas.rectangle(x + cos * offset, y + sin * offset, depth, 1.5, angle, CAR, glass)


def lorry(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """Draws a lorry with a box and a cab."""
    if not canvas.sees(x, y, 11):
        return
    rng = canvas.rng
    length = rng.uniform(9, 15)
    cos, sin = math.cos(angle), math.sin(angle)
    box = vary(rng, rng.choice((WHITE, (214, 210, 200), (170, 130, 110), (150, 160, 172))), 0.08)
    canvas.rectangle(x, y, length, 2.6, angle, CAR, box, 3.8)
    front = length / 2 + 1.6
    canvas.rectangle(x + cos * front, y + sin * front, 2.2, 2.4, angle, CAR, vary(rng, rng.choice(_CARS)), 2.8)


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
    slopes = [
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


def ship(canvas: Canvas, x: float, y: float, length: float, angle: float) -> None:
    """Draws a moored boat with its bow along `angle`: a motor yacht or a sailing boat."""
    if not canvas.sees(x, y, length):
        return
    rng = canvas.rng
    beam = length * rng.uniform(0.27, 0.34)
    cos, sin = math.cos(angle), math.sin(angle)

    def outline(shrink: float, back: float, front: float) -> list[Point]:
        half = beam / 2 * shrink
        hull = ((back, -0.8), (0.1, -1), (0.3, -0.75), (front, 0), (0.3, 0.75), (0.1, 1), (back, 0.8))
        return [(x + u * length * cos - v * half * sin, y + u * length * sin + v * half * cos) for u, v in hull]

    hull = vary(rng, rng.choice((WHITE, WHITE, WHITE, (226, 218, 200), (60, 78, 120), (200, 206, 212))), 0.06)
    canvas.polygon(outline(1, -0.5, 0.5), SHIP, hull, 1.6)
    canvas.polygon(outline(0.7, -0.46, 0.38), SHIP, mix(vary(rng, (206, 196, 176), 0.1), WHITE, 0.4))
    if rng.random() < 0.5:
        cover = vary(rng, rng.choice(((50, 78, 140), (40, 50, 70), (120, 110, 96), (60, 100, 104))), 0.1)
        canvas.rectangle(
            x - cos * 0.28 * length, y - sin * 0.28 * length, length * 0.26, beam * 0.62, angle, SHIP, cover
        )
    cabin = -0.02 * length
    canvas.rectangle(x + cos * cabin, y + sin * cabin, length * 0.32, beam * 0.56, angle, SHIP, WHITE, 2.8)
    glass = cabin + length * 0.15
    canvas.rectangle(x + cos * glass, y + sin * glass, length * 0.06, beam * 0.5, angle, SHIP, (58, 66, 78))


def airplane(canvas: Canvas, x: float, y: float, length: float, angle: float) -> None:
    """Draws an aeroplane with its nose along `angle`: a jet or, below 16 m, one with straight wings."""
    if not canvas.sees(x, y, length):
        return
    rng = canvas.rng
    cos, sin = math.cos(angle), math.sin(angle)
    body = vary(rng, (232, 232, 230), 0.05, 0.01)
    if rng.random() < 0.25:
        body = vary(rng, rng.choice(((60, 76, 150), (190, 190, 194), (150, 54, 50), (206, 196, 176))), 0.1)
    wing = shade(mix(body, (214, 216, 218), 0.7), 0.94)
    tail = vary(rng, rng.choice(((46, 62, 128), (160, 44, 44), (228, 228, 228), (40, 96, 110), (216, 150, 60))), 0.1)
    small = length < 16

    def lay(points: list[Point], colour: Colour, height: float) -> None:
        turned = [(x + (u * cos - v * sin) * length, y + (u * sin + v * cos) * length) for u, v in points]
        canvas.polygon(turned, AIRPLANE, colour, height)

    high = 0.045 * length + 1.5
    for side in (-1, 1):
        if small:
            lay([(0.16, 0), (0.13, side * 0.6), (-0.01, side * 0.6), (-0.04, 0)], wing, high)
            lay([(-0.36, 0), (-0.38, side * 0.2), (-0.47, side * 0.2), (-0.48, 0)], wing, high)
        else:
            lay([(0.17, 0), (-0.13, side * 0.47), (-0.21, side * 0.47), (-0.1, side * 0.12), (-0.12, 0)], wing, high)
            lay([(-0.33, 0), (-0.46, side * 0.18), (-0.51, side * 0.18), (-0.46, 0)], wing, high)
            for out in (0.16, 0.3)[: 2 if length > 38 else 1]:
                front = 0.2 - 0.52 * out
                nacelle = [(front, side * (out - 0.022)), (front, side * (out + 0.022))]
                nacelle += [(front - 0.12, side * (out + 0.018)), (front - 0.12, side * (out - 0.018))]
                lay(nacelle, shade(body, 0.72), high - 0.3)
    half = 0.055 if small else 0.048
    fuselage = [(0.5, 0), (0.475, 0.55 * half), (0.42, half), (-0.25, half), (-0.5, 0.25 * half)]
    lay(fuselage + [(u, -v) for u, v in reversed(fuselage)], body, high + 0.02 * length)
    lay([(0.46, 0.4 * half), (0.46, -0.4 * half), (0.43, -0.6 * half), (0.43, 0.6 * half)], (52, 58, 70), high)
    lay([(u, v * 0.35) for u, v in fuselage[1:]] + [(-0.5, 0), (0.47, 0)], shade(body, 1.1), high + 0.03 * length)
    lay([(-0.34, 0.004), (-0.5, 0.014), (-0.5, -0.014), (-0.34, -0.004)], tail, high + 0.14 * length)


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
