"""Scenes of roads: freeway, overpass and intersection."""

from __future__ import annotations

import math

from rsml.scenes.canvas import Canvas
from rsml.scenes.ground import YELLOW, Curve, along, carriageway, stalls
from rsml.scenes.materials import FIXTURE, GRASS, PAVEMENT, SHRUB, SOIL, mix, shade, vary
from rsml.scenes.nature import lawn
from rsml.scenes.structures import block, house
from rsml.scenes.vehicles import WHITE, car, lorry


def verge(canvas: Canvas) -> None:
    """Covers the ground beside a road: grass, worn grass, soil, or soil with shrubs."""
    rng, palette = canvas.rng, canvas.palette
    kind = rng.random()
    if kind < 0.4:
        lawn(canvas)
    elif kind < 0.7:
        lawn(canvas, GRASS, 0.5)
    else:
        canvas.fill(SOIL, palette.soil)
        if kind > 0.9:
            canvas.grow(4, (0.5, 1.6), lambda x, y: 0.4, SHRUB, (palette.shrub,))


def _bend(canvas: Canvas, most: float) -> Curve:
    """Returns a gentle curve y = a x^2."""
    a = canvas.rng.uniform(-most, most)
    return lambda x: a * x * x


def freeway(canvas: Canvas) -> None:
    """Two carriageways with lane lines and traffic, a median, verges and sometimes a slip road or trees."""
    rng, palette = canvas.rng, canvas.palette
    verge(canvas)
    curve = _bend(canvas, 0.003)
    lanes, gap = rng.choice((2, 3, 3, 4, 5)), rng.uniform(14, 60)
    colour = rng.choice((palette.asphalt, palette.concrete))
    width = lanes * 3.6 + 4.8
    median = rng.choice((1.2, 1.2, 4, 9, 14))
    middle = rng.uniform(-8, 8)
    offset = (width + median) / 2
    if median < 2:
        canvas.band(along(canvas, curve, middle), 3, PAVEMENT, colour)
    carriageway(canvas, curve, middle - offset, lanes, colour, gap, False)
    carriageway(canvas, curve, middle + offset, lanes, vary(rng, colour, 0.08, 0.01), gap * rng.uniform(0.6, 1.6), True)
    if median < 2:
        canvas.band(along(canvas, curve, middle), 0.7, FIXTURE, shade(palette.concrete, 1.1), 1.1)
    outer = offset + width / 2
    side = rng.choice((-1, 1))
    if rng.random() < 0.3:
        carriageway(canvas, _bend(canvas, 0.002), middle + side * (outer + 12), 1, palette.asphalt, 60, side > 0)
    trees = rng.choice((0, 0, 0.3, 0.7))
    if trees:

        def where(x: float, y: float) -> float:
            distance = (y - curve(x) - middle) * -side
            return trees if distance > outer + 5 else 0.0

        canvas.grow(5.5, (1.6, 3.8), where)


def overpass(canvas: Canvas) -> None:
    """One road over another, with parapets and the bridge's shadow on the lower lanes."""
    rng, palette = canvas.rng, canvas.palette
    verge(canvas)
    low = _bend(canvas, 0.002)
    lanes, gap = rng.choice((2, 3, 3, 4)), rng.uniform(16, 50)
    colour = rng.choice((palette.asphalt, palette.concrete))
    width = lanes * 3.6 + 4.8
    median = rng.choice((1.4, 1.4, 6, 10))
    offset = (width + median) / 2
    if median < 2:
        canvas.band(along(canvas, low, 0), 3, PAVEMENT, colour)
    carriageway(canvas, low, -offset, lanes, colour, gap, False)
    carriageway(canvas, low, offset, lanes, colour, gap, True)
    canvas.band(along(canvas, low, 0), 0.7, FIXTURE, shade(palette.concrete, 1.1), 1.1)
    trees = rng.choice((0, 0, 0.3))
    if trees:
        canvas.grow(6, (1.6, 3.6), lambda x, y: trees if abs(y - low(x)) > offset + width / 2 + 4 else 0.0)
    # The upper road: everything on it is drawn after, and higher than, the lower one.
    high = rng.uniform(6, 9)
    turned = canvas.rotation
    canvas.turn(turned + rng.choice((-1, 1)) * rng.uniform(0.9, 1.6))
    upper = _bend(canvas, 0.0015)
    above = vary(rng, rng.choice((palette.concrete, palette.asphalt)), 0.08, 0.01)
    decks = rng.choice((1, 1, 2))
    for deck in range(decks):
        upper_lanes = rng.choice((2, 3, 4)) if decks == 1 else 2
        shift = 0.0 if decks == 1 else (deck - 0.5) * (upper_lanes * 3.6 + 9)
        wide = upper_lanes * 3.6 + 4.8
        canvas.band(along(canvas, upper, shift), wide + 1.4, PAVEMENT, shade(palette.concrete, 1.15), high + 1)
        canvas.raised = high
        carriageway(canvas, upper, shift, upper_lanes, above, rng.uniform(20, 60), deck == 1, 0.0)
        canvas.raised = 0.0
    canvas.turn(turned)


def intersection(canvas: Canvas) -> None:
    """Two streets that cross, with stop lines, crossings and traffic; corners built up, green or bare."""
    rng, palette = canvas.rng, canvas.palette
    built = rng.choice(("houses", "houses", "blocks", "blocks", "open"))
    if built == "blocks" and rng.random() < 0.6:
        canvas.fill(PAVEMENT, palette.concrete)
    else:
        lawn(canvas, GRASS, rng.choice((0, 0, 0.5, 0.7)))
    lanes = [rng.choice((1, 1, 2, 2, 3)), rng.choice((1, 1, 2))]
    half = [lanes[0] * 3.4 + 0.6, lanes[1] * 3.4 + 0.6]
    cx, cy = rng.uniform(-7, 7), rng.uniform(-7, 7)
    for sx in (-1, 1):
        for sy in (-1, 1):
            for k in range(2):
                ox, oy = half[1] + 4, half[0] + 4
                x, y = cx + sx * (ox + 11 + k * 24), cy + sy * (oy + 9)
                if built == "houses":
                    house(canvas, x, y, rng.uniform(12, 17), rng.uniform(9, 12), rng.choice((0, math.pi / 2)))
                    house(canvas, x, y + sy * 23, rng.uniform(12, 17), rng.uniform(9, 12), rng.choice((0, math.pi / 2)))
                elif built == "blocks" and k == 0:
                    kind = rng.random()
                    if kind < 0.6:
                        block(
                            canvas,
                            x + sx * 8,
                            y + sy * 8,
                            rng.uniform(20, 32),
                            rng.uniform(16, 28),
                            0,
                            rng.uniform(4, 11),
                            True,
                        )
                    elif kind < 0.85:
                        canvas.rectangle(x + sx * 10, y + sy * 10, 40, 34, 0, PAVEMENT, palette.asphalt)
                        for row in (0, 16):
                            stalls(canvas, x + sx * 10, y + sy * row, 11, 0, 0.5)
    asphalt, pale = palette.asphalt, mix(WHITE, palette.asphalt, 0.12)
    kerb = shade(palette.concrete, 1.05)
    reach = canvas.reach
    canvas.rectangle(cx, cy, 3 * reach, 2 * half[0] + 4.4, 0, PAVEMENT, kerb)
    canvas.rectangle(cx, cy, 2 * half[1] + 4.4, 3 * reach, 0, PAVEMENT, kerb)
    canvas.rectangle(cx, cy, 3 * reach, 2 * half[0], 0, PAVEMENT, asphalt)
    canvas.rectangle(cx, cy, 2 * half[1], 3 * reach, 0, PAVEMENT, asphalt)
    canvas.circle(cx, cy, min(half) * 1.45, PAVEMENT, shade(asphalt, 0.97))
    marked, zebra = rng.random() < 0.85, rng.random() < 0.7
    turned = canvas.rotation
    for road in range(2):
        # Draw the second street in its own frame, a quarter turn on.
        if road:
            canvas.turn(turned + math.pi / 2)
            cx, cy = cy, -cx
        side, other = half[road], half[1 - road]
        if marked:
            for end in (-1, 1):
                start = cx + end * (other + 6)
                canvas.band(((start, cy), (start + end * 2 * reach, cy)), 0.3, PAVEMENT, mix(YELLOW, asphalt, 0.15))
                canvas.band(((start, cy), (start, cy - end * side)), 0.5, PAVEMENT, pale)
                for k in range(1, lanes[road]):
                    for v in (-1, 1):
                        x = 0.0
                        while x < 2 * reach:
                            here = start + end * x
                            canvas.band(
                                ((here, cy + v * k * 3.4), (here + end * 3, cy + v * k * 3.4)), 0.25, PAVEMENT, pale
                            )
                            x += 9
                if zebra:
                    bar = -side + 0.6
                    while bar < side:
                        x = cx + end * (other + 3)
                        canvas.rectangle(x, cy + bar, 2.8, 0.6, 0, PAVEMENT, pale)
                        bar += 1.3
        for lane in range(lanes[road]):
            for v in (-1, 1):
                x = other + 8 + rng.uniform(0, 12)
                while x < reach:
                    if rng.random() < 0.45:
                        (lorry if rng.random() < 0.06 else car)(
                            canvas, cx - v * x, cy + v * (lane + 0.5) * 3.4, 0 if v > 0 else math.pi
                        )
                    x += 7 + rng.expovariate(1 / 8)
        if rng.random() < 0.6:
            car(canvas, cx + rng.uniform(-6, 6), cy + 1.8, 0)
    canvas.turn(turned)
    cx, cy = -cy, cx
    trees = rng.choice((0, 0.15, 0.4))

    def where(x: float, y: float) -> float:
        return trees if abs(y - cy) > half[0] + 3.5 and abs(x - cx) > half[1] + 3.5 else 0.0

    if trees:
        canvas.grow(8, (1.4, 3.4), where)
