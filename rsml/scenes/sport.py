"""Scenes of sport: tennis courts and baseball diamonds."""

from __future__ import annotations

import math

import numpy as np

from rsml.scenes.canvas import Canvas
from rsml.scenes.ground import stalls
from rsml.scenes.materials import BUILDING, FIXTURE, GRASS, PAVEMENT, SOIL, Colour, mix, shade, vary
from rsml.scenes.nature import lawn, wave
from rsml.scenes.structures import block, fence, house, tennis_court
from rsml.scenes.vehicles import WHITE


def tenniscourt(canvas: Canvas) -> None:
    """Tennis courts behind fences, among lawns, trees, paths, houses or parking."""
    rng, palette = canvas.rng, canvas.palette
    lawn(canvas, GRASS, rng.choice((0, 0, 0.45, 0.5)))
    green, blue, red, grey = (82, 122, 92), (72, 100, 138), (154, 88, 74), (142, 136, 128)
    inner = vary(rng, rng.choice((green, green, blue, red, grey)), 0.12, 0.04)
    outer = vary(rng, rng.choice((red, green, shade(inner, 0.86), grey)), 0.12, 0.04)
    columns, rows = rng.choice(((1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2)))
    width, length = columns * 17.4, rows * 35
    cx, cy = rng.uniform(-8, 8), rng.uniform(-8, 8)
    houses = rng.random()
    far = width / 2 + 10
    if houses < 0.6:
        for side in (-1, 1) if houses < 0.3 else (1,):
            for k in range(-2, 3):
                x, y = cx + side * (far + rng.uniform(3, 6)), cy + k * 20 + rng.uniform(-2, 2)
                if houses < 0.15:
                    block(canvas, x + side * 5, y, 18, 17, math.pi / 2, rng.uniform(5, 9))
                else:
                    house(canvas, x, y, rng.uniform(14, 17), 11, math.pi / 2)
    below = cy + length / 2 + 8
    kind = rng.random()
    if kind < 0.35:
        canvas.rectangle(cx, below + 8, 2 * canvas.reach, 17, 0, PAVEMENT, palette.asphalt)
        stalls(canvas, cx, below + 3, 20, 0, rng.uniform(0.3, 0.9))
    elif kind < 0.7:
        canvas.band(((-canvas.reach, below - 3), (canvas.reach, below - 3)), 2.4, PAVEMENT, palette.concrete)
        canvas.band(((cx - far + 5, -canvas.reach), (cx - far + 5, canvas.reach)), 2.4, PAVEMENT, palette.concrete)
    for column in range(columns):
        for row in range(rows):
            x, y = cx + (column - (columns - 1) / 2) * 17.4, cy + (row - (rows - 1) / 2) * 35
            tennis_court(canvas, x, y, math.pi / 2, inner, outer)
    left, right, top, bottom = cx - width / 2, cx + width / 2, cy - length / 2, cy + length / 2
    fence(canvas, [(left, top), (right, top), (right, bottom), (left, bottom)])
    trees = rng.choice((0, 0.2, 0.6, 0.9))

    def where(px: float, py: float) -> float:
        if left - 4 < px < right + 4 and top - 4 < py < bottom + 4:
            return 0.0
        return trees if top - 9 > py or left - 9 > px or (houses >= 0.6 and px > right) else 0.0

    if trees:
        canvas.grow(6, (1.8, 4), where)


def baseballdiamond(canvas: Canvas) -> None:
    """A baseball field: infield of soil around a square of grass, outfield, stands, fence, trees or parking."""
    rng, palette = canvas.rng, canvas.palette
    lawn(canvas, GRASS, rng.choice((0, 0, 0, 0.4)))
    base = rng.choice((18.3, 18.3, 22.0, 27.4)) * min(1.0, canvas.extent / 85)
    soil: Colour = vary(rng, rng.choice((palette.soil, (186, 122, 88), (196, 168, 136), (168, 104, 76))), 0.1)
    # Home plate at h; first and third base lie along the two foul lines at +-45 degrees.
    hx, hy = rng.uniform(-0.3, -0.12) * canvas.extent, rng.uniform(-0.12, 0.12) * canvas.extent
    field = mix(palette.grass, (88, 128, 66), rng.uniform(0.1, 0.7))
    root = math.sqrt(0.5)
    outfield = base * rng.uniform(2.4, 3.2)

    def arc(cx: float, cy: float, radius: float, start: float, end: float) -> list[tuple[float, float]]:
        turns = [start + (end - start) * k / 24 for k in range(25)]
        return [(cx + radius * math.cos(t), cy + radius * math.sin(t)) for t in turns]

    quarter = math.pi / 4
    if rng.random() < 0.5:
        canvas.polygon([(hx - 6, hy), *arc(hx, hy, outfield + 5, -quarter - 0.06, quarter + 0.06)], SOIL, soil)
    canvas.polygon([(hx - 2, hy), *arc(hx, hy, outfield, -quarter - 0.03, quarter + 0.03)], GRASS, field)
    if rng.random() < 0.6:
        x, y = canvas.coordinates()
        turn, period = rng.choice((0, math.pi / 2, quarter)), rng.uniform(5, 9)
        stripes = wave((x * np.float32(math.cos(turn)) + y * np.float32(math.sin(turn))) * np.float32(1 / period))
        canvas.pattern(GRASS, np.float32(rng.uniform(0.03, 0.07)) * np.sign(stripes))
    pitcher = hx + base * 0.67
    skin = base * 1.04
    full = rng.random()
    canvas.polygon([(hx - 1, hy), *arc(pitcher, hy, skin, -1.95, 1.95)], SOIL, soil)
    canvas.circle(hx, hy, base * 0.16 + 1.2, SOIL, soil)
    if full < 0.72:
        side, inset = base * root, base * 0.11
        square = (
            (hx + inset * 1.6, hy),
            (hx + side, hy - side + inset),
            (hx + 2 * side - inset * 1.4, hy),
            (hx + side, hy + side - inset),
        )
        canvas.polygon(square, GRASS, field)
        canvas.circle(pitcher, hy, base * 0.11 + 0.6, SOIL, soil)
        canvas.circle(hx, hy, base * 0.16 + 1.2, SOIL, soil)
    else:
        canvas.circle(pitcher, hy, base * 0.1, SOIL, shade(soil, 1.1))
    chalk = mix(WHITE, soil, 0.15)
    for sign in (-1, 1):
        canvas.band(((hx, hy), (hx + outfield * root, hy + sign * outfield * root)), 0.3, FIXTURE, chalk)
    stands = rng.random()
    behind = hx - base * 0.16 - 7
    if stands < 0.75:
        for sign in (-1, 1):
            px, py = hx + base * 0.1, hy + sign * (base * 0.62 + 7)
            canvas.rectangle(px, py, base * 0.5, 3, sign * quarter, BUILDING, vary(rng, (176, 172, 166), 0.15), 3)
            if stands < 0.5:
                bx, by = px - 6 * root - 2, py + sign * 6 * root
                for step in range(3):
                    tone = shade((190, 190, 190), 0.8 + 0.15 * step)
                    canvas.rectangle(
                        bx - step, by + sign * step, base * 0.6, 1.2, sign * quarter, BUILDING, tone, 2 + step * 0.5
                    )
        if stands < 0.3:
            block(canvas, behind - 4, hy, 10, 8, 0, 4)
    if rng.random() < 0.6:
        net = arc(hx, hy, base * 0.16 + 6, math.pi * 0.65, math.pi * 1.35)
        canvas.band(net, 0.3, FIXTURE, (120, 120, 120), 6)
    kind = rng.random()
    if kind < 0.4:
        canvas.rectangle(behind - 30, 0, 40, 3 * canvas.reach, 0, PAVEMENT, palette.asphalt)
        if kind < 0.25:
            stalls(canvas, behind - 14, 0, 34, math.pi / 2, 0.6)
    trees = rng.choice((0, 0, 0.35, 0.8))

    def where(px: float, py: float) -> float:
        distance = math.hypot(px - hx, py - hy)
        if distance < outfield + 6 and px > hx - 6:
            return 0.0
        return trees if distance > base * 1.1 and (kind >= 0.4 or px > hx - 5) else 0.0

    if trees:
        canvas.grow(6, (1.8, 4.2), where)
